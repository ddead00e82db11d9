"""Backends of type docker on this machine: tasks in real containers, how they end, and that nothing of them is left."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.integration.operators.podman import IMAGE, Podman
from tests.integration.operators.test_podman import STUBBORN, log_of, summary_after, up
from tests.support import Run, nothing_left, sflow_ctl, wait_until

POOL = f"{{type: docker, runtime: podman, image: '{IMAGE}', extra_args: ['--network=host']"


def pool(tasks: str, more: str = "", head: str = "") -> str:
    """Return a workflow with a pool of containers; `more` are further fields of the backend."""
    return f'version: "0.1"\n{head}backends: {{box: {POOL}{more}}}}}\nworkflow:\n  name: w\n  tasks:\n{tasks}'


def one(script: str, more: str = "", fields: str = "", head: str = "") -> str:
    """Return a workflow with one task."""
    lines = "\n".join(f"        {line}" for line in script.splitlines())
    return pool(f"  - name: a\n    script:\n    - |\n{lines}\n{fields}", more, head)


def start(started: list[Run], tmp_path: Path, text: str, *arguments: str, **options: object) -> Run:
    run = Run.start(text, tmp_path, *arguments, **options)  # type: ignore[arg-type]
    started.append(run)
    return run


def test_tasks_without_an_operator_run_in_the_pools_image(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    """The whole of a task: image, environment, working directory, mounts, the run's directories, both streams, status."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("mounted\n")
    (tmp_path / "input").write_text("from the workspace\n")
    script = """
echo $TEXT $SFLOW_TASK_NAME $SFLOW_BACKEND_NUM_NODES $SFLOW_TASK_NODE_NAME
test -e /etc/debian_version || echo inside
echo $PWD; cat /data/file "$SFLOW_WORKSPACE_DIR/input"
echo to stderr >&2
echo kept > "$SFLOW_TASK_OUTPUT_DIR/out"
echo "${NVIDIA_VISIBLE_DEVICES-unset} ${CUDA_VISIBLE_DEVICES-unset}"
exit 7"""
    more = f", mounts: ['{tmp_path}/data:${{{{ variables.WHERE }}}}:ro'], workdir: /tmp"
    run = start(started, tmp_path, one(script, more, head='variables: {TEXT: "a b", WHERE: /data}\n'))
    assert run.finish()[0] == 1
    (task,) = run.summary().tasks
    assert task.exit_code == 7
    assert log_of(run) == (
        "a b a 1 localhost\ninside\n/tmp\nmounted\nfrom the workspace\nto stderr\nvoid unset\n"
    )
    assert (run.directory / "a" / "out").read_text() == "kept\n"
    assert podman.containers() == []


def test_the_program_called_docker_is_used_unless_the_pool_names_another(
    podman: Podman, started: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the package podman-docker is installed."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "docker").write_text('#!/bin/bash\nexec podman "$@"\n')
    (programs / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    run = start(started, tmp_path, one("echo hello; exit 3").replace("runtime: podman, ", ""))
    assert run.finish()[0] == 1
    assert log_of(run) == "hello\n"
    assert run.summary().tasks[0].exit_code == 3


def test_a_task_on_several_nodes_has_a_container_on_each(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    script = "echo $SFLOW_NODE_RANK of $SFLOW_WORLD_SIZE on $SFLOW_TASK_NODE_NAME; exit $SFLOW_NODE_RANK"
    run = start(started, tmp_path, one(script, ", nodes: 2", "    resources: {nodes: {count: 2}}\n"))
    assert run.finish()[0] == 1
    assert sorted(log_of(run).splitlines()) == ["0: 0 of 2 on localhost", "1: 1 of 2 on localhost-1"]
    assert run.summary().tasks[0].exit_code == 1


def test_an_operator_of_the_file_takes_nothing_from_the_pool(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    own = f"{{type: docker_run, runtime: podman, image: '{IMAGE}', workdir: /etc, extra_args: ['--network=host']}}"
    operators = f"operators: {{own: {own}}}\n"
    run = start(started, tmp_path, one("echo $PWD", ", workdir: /tmp", "    operator: own\n", operators))
    assert run.finish()[0] == 0
    assert log_of(run) == "/etc\n"


def test_probes_and_dependencies(podman: Podman, started: list[Run], tmp_path: Path) -> None:
    tasks = """
  - name: server
    script: ["echo starting; while ! test -e $SFLOW_WORKFLOW_OUTPUT_DIR/go; do sleep 0.1; done; echo it is up; sleep 600"]
    probes: {readiness: {log_watch: {regex_pattern: "is up"}}}
  - {name: a, script: ["echo client"], depends_on: [server]}
"""
    run = start(started, tmp_path, pool(tasks))
    run.wait_for("server", "running")
    assert run.states().keys() == {"server"}
    (run.directory / "go").touch()
    assert run.finish()[0] == 0
    assert log_of(run) == "client\n"
    assert podman.containers() == []


def test_retries_count_and_each_attempt_has_its_container(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    fields = "    retries: {count: 2, interval: 0}\n"
    run = start(started, tmp_path, one("echo attempt $SFLOW_ATTEMPT; test $SFLOW_ATTEMPT = 3", fields=fields))
    assert run.finish()[0] == 0
    assert log_of(run) == "attempt 3\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_run_is_passed_into_the_container(
    podman: Podman, started: list[Run], tmp_path: Path, number: signal.Signals
) -> None:
    run = start(started, tmp_path, one("trap 'echo got it; exit 3' TERM; echo up; sleep 600 & wait"))
    up(run)
    run.process.send_signal(number)
    assert run.finish()[0] == 128 + number
    assert run.summary().tasks[0].exit_code == 3
    assert "got it\n" in log_of(run)
    assert podman.containers() == []


def test_a_time_limit_removes_a_container_that_ignores_sigterm(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, one(STUBBORN, fields="    timeout: 2\n    stop: {grace: 1}\n"))
    up(run)
    assert summary_after(run).tasks[0].state.value == "timeout"
    assert podman.containers() == []


def test_a_killed_controller_leaves_no_container(podman: Podman, started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, one(STUBBORN))
    up(run)
    run.kill_both()
    run.finish()
    nothing_left(run)
    wait_until(lambda: not podman.containers(), "the container is gone")


def test_a_resumed_run_removes_containers_that_nothing_else_could(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    """Controller, keeper, guardian and agent were killed at once; the containers live on, below Podman's monitor."""
    text = one("echo up; test -e $SFLOW_WORKFLOW_OUTPUT_DIR/go || sleep 600; echo done")
    run = start(started, tmp_path, text)
    up(run)
    run.kill_all()
    run.finish()
    (run.directory / "go").touch()
    (left,) = podman.containers()
    done = sflow_ctl("run", "--resume", str(run.directory), "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done\n" in log_of(run)
    assert left not in podman.containers()
    assert podman.containers() == []


def test_options_of_the_command_line_win_over_the_files(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    """The same option: the command line over the file, the specific over the general one."""
    text = one("echo $A $B $C $D").replace("'--network=host'", "'--network=host -e A=file', '--env=B=file'")
    arguments = [
        "-e",
        "--env=A=general",
        "-e",
        "--env=C=general",
        "--extra-docker-args",
        "--env=C=special -e D='x y'",
    ]
    run = start(started, tmp_path, text, *arguments)
    code, output = run.finish()
    assert code == 0, output
    assert log_of(run) == "general file special x y\n"


@pytest.mark.skipif(sys.platform != "linux", reason="agents are for Linux")
def test_a_missing_program_is_one_finding_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(one("echo hi").replace("runtime: podman, ", ""))
    empty = tmp_path / "empty"
    empty.mkdir()
    done = sflow_ctl("run", file, cwd=tmp_path, env={"PATH": str(empty)})
    assert done.returncode == 2
    assert 'needs the program "docker", which is not on PATH' in done.stdout + done.stderr
    assert not (tmp_path / "sflow_output").exists()
