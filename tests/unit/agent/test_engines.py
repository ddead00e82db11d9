"""The command lines of container engines."""

import subprocess
from pathlib import Path

import msgspec
import pytest

from protocol.messages.rank_spec import Container, EngineChoice
from sflow_agent.processes.engines import ENGINES, INIT, Inside, candidates, container_name, engine_command

TAIL = ("bash", "-c", INIT, "sflow-init", "bash", "-lc", "x")


def inside(gpus: str = "", **variables: str) -> Inside:
    return Inside(
        argv=("bash", "-lc", "x"),
        name="sflow-m-a.23.1",
        run_id="r1",
        marker="r1-m",
        variables={"K": "1", **({"CUDA_VISIBLE_DEVICES": gpus} if gpus else {}), "M": "m", **variables},
        always=("M",),
        gpus=tuple(gpus.split(",")) if gpus else (),
        count=len(gpus.split(",")) if gpus else 0,
        home="/home/u",
        user=(1000, 100),
        scratch="/tmp",
    )


def argv(engine: EngineChoice, given: Inside | None = None, **fields: object) -> list[str]:
    container = Container(engine=engine, image="img:2", **fields)  # type: ignore[arg-type]
    return list(engine_command(engine, container, given or inside()).argv)


BEGIN = "--name sflow-m-a.23.1 --label sflow.run=r1 --label sflow.marker=r1-m --label sflow.user=1000 --log-driver none"
VOID = ["-e", "NVIDIA_VISIBLE_DEVICES=void"]


def after_begin(made: list[str]) -> list[str]:
    """Return the words after those that all containers of Docker and Podman have."""
    return made[made.index("none") + 1 :]


def test_docker_as_the_format_intends_it() -> None:
    made = argv("docker", gpus="all", workdir="/w", mounts=("/a:/b",), extra_args=("-p", "1"))
    expected = f"docker run {BEGIN} --gpus all -w /w -v /a:/b -e M -e K -p 1 img:2".split()
    assert made == [*expected, *TAIL]


def test_docker_gets_the_slice_and_the_task_counts_it_from_zero() -> None:
    made = argv("docker", inside(gpus="2,5"))
    assert after_begin(made)[:2] == ["--gpus", '"device=2,5"']
    assert "CUDA_VISIBLE_DEVICES=0,1" in made
    assert "CUDA_VISIBLE_DEVICES" not in made


@pytest.mark.parametrize("engine", ["docker", "podman", "enroot"])
def test_simulated_gpus_are_counted_from_zero_too(engine: EngineChoice) -> None:
    """So that a file is tried with the values that it will see."""
    given = msgspec.structs.replace(inside(CUDA_VISIBLE_DEVICES="2,3"), count=2)
    made = engine_command(engine, Container(engine=engine, image="i"), given).argv
    assert "CUDA_VISIBLE_DEVICES=0,1" in made
    assert not any("device=" in part or "nvidia.com" in part for part in made)


@pytest.mark.parametrize("engine", ["docker", "podman", "enroot"])
def test_instances_of_a_partitioned_gpu_keep_their_names(engine: EngineChoice) -> None:
    made = engine_command(engine, Container(engine=engine, image="i"), inside(gpus="MIG-1"))
    assert "CUDA_VISIBLE_DEVICES" in made.argv
    assert not any(part.startswith("CUDA_VISIBLE_DEVICES=") for part in made.argv)
    assert any("MIG-1" in part for part in made.argv)


def test_all_gpus_keep_their_numbers() -> None:
    made = argv("docker", inside(gpus="2,5"), gpus="all")
    assert after_begin(made)[:2] == ["--gpus", "all"]
    assert "CUDA_VISIBLE_DEVICES" in made


def test_podman_names_each_device() -> None:
    made = argv("podman", inside(gpus="2,GPU-5"))
    assert made[:1] == ["podman"]
    assert after_begin(made)[:4] == ["--device", "nvidia.com/gpu=2", "--device", "nvidia.com/gpu=GPU-5"]
    assert after_begin(argv("podman", gpus="all"))[:2] == ["--device", "nvidia.com/gpu=all"]


def test_without_pass_envs_only_ours_go_in() -> None:
    made = argv("docker", inside(gpus="2"), pass_envs=False)
    assert [made[index + 1] for index, part in enumerate(made) if part == "-e"] == ["M"]


@pytest.mark.parametrize(
    ("fields", "variables"),
    [
        ({"gpus": "all"}, {}),
        ({"extra_args": ("--gpus", "all")}, {}),
        ({"extra_args": ("--device", "nvidia.com/gpu=all")}, {}),
        ({"extra_args": ("-e", "NVIDIA_VISIBLE_DEVICES=1")}, {}),
        ({}, {"NVIDIA_VISIBLE_DEVICES": "3"}),
    ],
)
def test_gpus_are_hidden_unless_the_user_asks_for_them(
    fields: dict[str, object], variables: dict[str, str]
) -> None:
    """Many images ask for all GPUs by a variable of their own."""
    assert after_begin(argv("docker"))[:2] == VOID
    assert VOID[1] not in argv("docker", inside(**variables), **fields)


@pytest.mark.parametrize(
    ("engine", "fields", "expected"),
    [
        ("docker", {"docker_host": "ssh://a"}, ["docker", "--host", "ssh://a"]),
        ("docker", {"context": "b"}, ["docker", "--context", "b"]),
        ("podman", {"docker_host": "ssh://a"}, ["podman", "--url", "ssh://a"]),
        ("podman", {"context": "b"}, ["podman", "--connection", "b"]),
    ],
)
def test_every_command_for_a_host_names_its_service(
    engine: EngineChoice, fields: dict[str, str], expected: list[str]
) -> None:
    container = Container(engine=engine, image="i", **fields)  # type: ignore[arg-type]
    made = engine_command(engine, container, inside())
    assert list(made.argv[:4]) == [*expected, "run"]
    assert made.cleanup is not None
    assert list(made.cleanup[-len(expected) :]) == expected
    assert candidates("auto", is_elsewhere=True) == ("docker", "podman")


def test_users_and_roots() -> None:
    def user(engine: EngineChoice, remaps: bool | None) -> list[str]:
        made = argv(engine, remaps_root=remaps)
        rest = after_begin(made)
        assert rest[:2] == VOID
        return rest[2 : rest.index("-e", 2)]

    assert [user("docker", flag) for flag in (None, True, False)] == [
        [],
        ["--user", "0:0"],
        ["--user", "1000:100"],
    ]
    assert user("podman", False) == ["--user", "1000:100", "--userns", "keep-id"]


def test_a_container_of_the_run() -> None:
    made = argv(
        "podman", directories=("/ws", "/out"), network="host", is_writable=False, mounts_home=True
    )  # fmt: skip
    expected = f"podman run --rm {BEGIN} {' '.join(VOID)} -v /ws:/ws:rw -v /out:/out:rw -v /home/u:/home/u:rw"
    expected += " -e HOME=/home/u --network host"
    assert made == [*expected.split(), *["--read-only", "-e", "M", "-e", "K", "img:2"], *TAIL]


def test_apptainer_leaves_the_process_in_the_tree() -> None:
    container = Container(
        engine="apptainer", image="nvcr.io#nvidia/x:1", workdir="/w", mounts=("/a:/b",), directories=("/ws",),
        is_writable=True, mounts_home=False, remaps_root=True, network="host", extra_args=("--pid",),
    )  # fmt: skip
    made = engine_command("apptainer", container, inside(gpus="2,5"))
    expected = "apptainer exec --cleanenv --nv --no-home --writable-tmpfs --fakeroot --pwd /w --bind /a:/b --bind /ws:/ws:rw"
    assert made.argv == (*expected.split(), "--pid", "docker://nvcr.io/nvidia/x:1", "bash", "-lc", "x")
    assert made.env == {
        "APPTAINERENV_K": "1",
        "APPTAINERENV_CUDA_VISIBLE_DEVICES": "2,5",
        "APPTAINERENV_M": "m",
    }
    assert made.cleanup is None


def test_apptainer_takes_an_image_file_as_it_is() -> None:
    made = engine_command("apptainer", Container(engine="apptainer", image="/i/x.sif"), inside())
    assert made.argv == ("apptainer", "exec", "--cleanenv", "/i/x.sif", "bash", "-lc", "x")


def test_enroot_unpacks_starts_and_removes() -> None:
    container = Container(
        engine="enroot", image="nvcr.io/nvidia/x:1", workdir="/w", mounts=("/a:/b:ro",), directories=("/ws",),
        is_writable=True,
    )  # fmt: skip
    made = engine_command("enroot", container, inside(gpus="2,5"))
    name, image, unpacked, *start = made.argv[4:]
    assert (name, image) == ("sflow-m-a.23.1", "docker://nvcr.io#nvidia/x:1")
    assert unpacked == "/tmp/sflow-m-a.23.1.sqsh"
    expected = "--rw --mount /a:/b:none:x-create=auto,bind,ro --mount /ws:/ws:none:x-create=auto,bind,rw"
    expected += (
        " --env NVIDIA_VISIBLE_DEVICES=2,5 --env M --env K --env CUDA_VISIBLE_DEVICES=0,1 sflow-m-a.23.1"
    )
    assert start[: len(expected.split())] == expected.split()
    assert start[-4:] == ["/w", "bash", "-lc", "x"]
    assert made.cleanup is not None
    assert made.cleanup[-2:] == (name, unpacked)


def test_enroot_takes_an_image_file_as_it_is() -> None:
    made = engine_command("enroot", Container(engine="enroot", image="/i/x.sqsh"), inside())
    assert made.argv[5:7] == ("/i/x.sqsh", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_auto_tries_every_engine(engine: EngineChoice) -> None:
    assert engine in candidates("auto")
    assert candidates(engine) == (engine,)
    assert argv(engine)[-3:] == ["bash", "-lc", "x"]


def test_names_differ_where_tasks_differ() -> None:
    names = {container_name("r-1", rank) for rank in ("a b#1", "a_b#1", "a-b#1", "a_b#2", "a_b#2.1", "ä#1")}
    assert len(names) == 6
    assert all(name.startswith("sflow-r-1-") and name.replace(".", "").isascii() for name in names)
    assert container_name("r", "a b#1") == "sflow-r-a.20.b.23.1"


def engine_program(directory: Path, ids: str, status: int = 0) -> Path:
    """Return a stand-in that lists these containers."""
    program = directory / "docker"
    program.write_text(
        f"#!/bin/sh\necho \"$*\" >> {directory}/calls\n[ $1 != ps ] || {{ echo '{ids}'; exit {status}; }}\n"
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(("ids", "ps_status", "expected"), [("", 0, 0), ("f00", 0, 1), ("", 1, 1)])
def test_a_cleanup_succeeds_only_if_nothing_is_left(
    tmp_path: Path, ids: str, ps_status: int, expected: int
) -> None:
    engine_program(tmp_path, ids, ps_status)
    cleanup = engine_command("docker", Container(engine="docker", image="i"), inside()).cleanup
    assert cleanup is not None
    ended = subprocess.run(cleanup, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
    assert ended.returncode == expected
    tries = 3 if expected else 1
    calls = [
        "kill sflow-m-a.23.1",
        *["rm -f -v sflow-m-a.23.1", "ps -aq --filter name=^sflow-m-a.23.1$"] * tries,
    ]
    assert (tmp_path / "calls").read_text().splitlines() == calls


@pytest.mark.parametrize(("script", "expected"), [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
def test_the_first_process_gives_the_scripts_status_and_adds_nothing(script: str, expected: int) -> None:
    ended = subprocess.run(
        ("bash", "-c", INIT, "init", "bash", "-c", script), capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (expected, b"", b"")


def test_enroots_script_with_a_stand_in(tmp_path: Path) -> None:
    program = tmp_path / "enroot"
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    made = engine_command("enroot", Container(engine="enroot", image="ubuntu"), inside())
    assert made.cleanup is not None
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert subprocess.run(made.argv, env=env, check=False).returncode == 0
    assert subprocess.run(made.cleanup, env=env, check=False).returncode == 0
    assert (tmp_path / "calls").read_text().splitlines() == [
        "import --output /tmp/sflow-m-a.23.1.sqsh docker://ubuntu",
        "create --name sflow-m-a.23.1 /tmp/sflow-m-a.23.1.sqsh",
        "start --env M --env K sflow-m-a.23.1 bash -lc x",
        "remove -f sflow-m-a.23.1",
        "list",
    ]
