"""Docker backends with hosts: real clients of Docker and Podman, a service that they reach in four ways, and what is left.

The hosts are this machine: containers on it are the proof, whatever way their client took.
"""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.integration.operators.docker_service import DockerService, needs_docker, program_directory
from tests.integration.operators.podman import IMAGE, Podman
from tests.integration.operators.sshd import NoServerError, Sshd, start_sshd
from tests.integration.operators.test_podman import STUBBORN, log_of, summary_after, up
from tests.support import Run, nothing_left, sflow_ctl, wait_until

STUBBORN_FOR_CLIENTS = f"exec 2>&1; {STUBBORN}"


def far(hosts: str, script: str, fields: str = "", more: str = "") -> str:
    """Return a workflow with one task on hosts; `more` are further fields of the backend."""
    lines = "\n".join(f"        {line}" for line in script.splitlines())
    return f"""
version: "0.1"
variables: {{TEXT: "a b"}}
backends:
  far:
    type: docker
    image: "{IMAGE}"
    extra_args: ["--network=host"]
{more}    hosts:
{hosts}
workflow:
  name: w
  tasks:
  - name: a
    script:
    - |
{lines}
{fields}"""


def start(started: list[Run], tmp_path: Path, text: str, *arguments: str) -> Run:
    run = Run.start(text, tmp_path, *arguments)
    started.append(run)
    return run


@pytest.fixture
def ssh_service(service: DockerService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "object":
    """The service behind an SSH server: Docker's client there is told where it is by the server's settings."""
    directory = tmp_path / "sshd"
    directory.mkdir()
    try:
        server = start_sshd(directory, f"SetEnv DOCKER_HOST={service.address}\n")
    except NoServerError as problem:
        pytest.skip(f"no SSH server: {problem}")
    settings = directory / "client"
    settings.write_text(
        f"Host *\n  IdentityFile {directory}/user\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
        "  LogLevel ERROR\n"
    )
    monkeypatch.setenv("PATH", program_directory(tmp_path, ssh=f'exec /usr/bin/ssh -F {settings} "$@"'))
    yield server
    server.close()


def ssh_host(server: Sshd) -> str:
    return f"    - {{name: m1, docker_host: 'ssh://127.0.0.1:{server.port}', ip_address: 127.0.0.1}}"


@needs_docker()
def test_a_task_runs_on_a_host_that_dockers_client_reaches_by_ssh(
    ssh_service: Sshd, podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    script = "echo $TEXT $SFLOW_TASK_NODE_NAME $SFLOW_TASK_ASSIGNED_NODE_IPS; echo error >&2; exit 7"
    run = start(started, tmp_path, far(ssh_host(ssh_service), script))
    assert run.finish()[0] == 1
    assert log_of(run) == "a b m1 127.0.0.1\nerror\n"
    assert run.summary().tasks[0].exit_code == 7
    assert podman.containers() == []


@needs_docker()
def test_a_stop_reaches_a_container_over_ssh(
    ssh_service: Sshd, podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    """The signal goes to Docker's client alone: its `ssh` would end the connection that carries it on."""
    script = "trap 'echo got it; exit 3' TERM; echo up; sleep 600 & wait"
    run = start(started, tmp_path, far(ssh_host(ssh_service), script))
    up(run)
    assert len(podman.containers()) == 1
    run.process.send_signal(signal.SIGINT)
    assert summary_after(run).tasks[0].exit_code == 3
    assert "got it\n" in log_of(run)
    assert podman.containers() == []


@needs_docker()
def test_a_container_over_ssh_that_ignores_sigterm_is_removed(
    ssh_service: Sshd, podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    run = start(
        started, tmp_path, far(ssh_host(ssh_service), STUBBORN, "    timeout: 12\n    stop: {grace: 1}\n")
    )
    up(run)
    assert summary_after(run).tasks[0].state.value == "timeout"
    assert podman.containers() == []


@needs_docker()
def test_a_killed_controller_leaves_nothing_on_a_host(
    ssh_service: Sshd, podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, far(ssh_host(ssh_service), STUBBORN))
    up(run)
    run.kill_both()
    run.finish()
    nothing_left(run)
    wait_until(lambda: not podman.containers(), "the container is gone")


@needs_docker()
def test_the_guardian_removes_what_a_killed_agent_has_on_a_host(
    ssh_service: Sshd, podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, far(ssh_host(ssh_service), STUBBORN, "    on_node_lost: fail\n"))
    up(run)
    (agent,) = run.agents()
    os.kill(agent, signal.SIGKILL)
    summary_after(run)
    wait_until(lambda: not podman.containers(), "the container is gone")


@needs_docker()
def test_a_lost_connection_is_an_end_of_its_own(
    ssh_service: Sshd, podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    """The container goes on without its client; the cleanup removes it before the next attempt."""
    script = "echo up $SFLOW_ATTEMPT; test $SFLOW_ATTEMPT = 2 || sleep 600"
    run = start(
        started, tmp_path, far(ssh_host(ssh_service), script, "    retries: {count: 1, interval: 0}\n")
    )
    wait_until(lambda: "up 1" in log_of(run), "the task runs")
    for pid in ssh_service.connections():
        with contextlib.suppress(ProcessLookupError):  # it ended with another one
            os.kill(pid, signal.SIGKILL)
    code, output = run.finish()
    assert code == 0, output
    assert log_of(run) == "up 2\n"
    assert podman.containers() == []


@needs_docker()
def test_a_task_on_two_hosts_has_a_container_on_each(
    service: DockerService,
    podman: Podman,
    started: list[Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By address and by the name of a context, each with options of its own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    made = os.spawnlp(
        os.P_WAIT, "docker", "docker", "context", "create", "there", "--docker", f"host={service.address}"
    )
    assert made == 0
    (tmp_path / "of-b").write_text("mount of b\n")
    hosts = (
        f"    - {{name: a, docker_host: '{service.address}', extra_args: ['-e OF=a']}}\n"
        f"    - {{name: b, context: there, extra_args: [-e, OF=b], mounts: ['{tmp_path}/of-b:/of-b:ro']}}"
    )
    script = (
        "echo $OF $SFLOW_TASK_NODE_NAME $SFLOW_NODE_RANK; test $OF = a || cat /of-b; exit $SFLOW_NODE_RANK"
    )
    run = start(started, tmp_path, far(hosts, script, "    resources: {nodes: {count: 2}}\n"))
    code, output = run.finish()
    assert code == 1, output
    assert sorted(log_of(run).splitlines()) == ["0: a a 0", "1: b b 1", "1: mount of b"]
    assert podman.containers() == []


def test_podmans_client_reaches_a_host(
    service: DockerService, podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    hosts = f"    - {{name: m1, docker_host: '{service.address}'}}"
    script = "trap 'echo got it; exit 3' TERM; echo up; sleep 600 & wait"
    run = start(started, tmp_path, far(hosts, script, more="    runtime: podman\n"))
    up(run)
    run.process.send_signal(signal.SIGTERM)
    assert summary_after(run).tasks[0].exit_code == 3
    assert podman.containers() == []


def test_hosts_are_filtered_by_name(
    service: DockerService, podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    hosts = "\n".join(f"    - {{name: m{n}, docker_host: '{service.address}'}}" for n in range(3))
    text = far(hosts, "echo $SFLOW_TASK_NODE_NAME", more="    runtime: podman\n    exclude_nodes: [m0]\n")
    run = start(started, tmp_path, text, "--exclude-nodes", "m1")
    assert run.finish()[0] == 0
    assert log_of(run) == "m2\n"


def test_a_resume_removes_what_is_left_on_hosts(
    service: DockerService, podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    hosts = f"    - {{name: m1, docker_host: '{service.address}'}}"
    script = f"echo up; test -e {tmp_path}/go || sleep 600; echo done"
    text = far(hosts, script, more=f"    runtime: podman\n    mounts: ['{tmp_path}:{tmp_path}']\n")
    run = start(started, tmp_path, text)
    up(run)
    run.kill_all()
    run.finish()
    (tmp_path / "go").touch()
    assert len(podman.containers()) == 1
    done = sflow_ctl("run", "--resume", str(run.directory), "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done\n" in log_of(run)
    assert podman.containers() == []


def test_a_host_that_does_not_answer_fails_its_task_with_the_clients_message(
    started: list[Run], tmp_path: Path
) -> None:
    hosts = f"    - {{name: m1, docker_host: 'unix://{tmp_path}/nothing'}}"
    run = start(started, tmp_path, far(hosts, "echo never"))
    code, output = run.finish()
    assert code == 1
    assert run.summary().tasks[0].state.value == "failed"
    assert f"{tmp_path}/nothing" in log_of(run), output
    nothing_left(run)


RECORDER = """printf '%s\\n' "$*" >> {folder}/calls
case " $* " in *" run "*) echo "CUDA=$CUDA_VISIBLE_DEVICES" ;; esac"""


@pytest.mark.parametrize("is_simulated", [False, True])
def test_gpus_of_a_host_are_asked_for_by_number(
    started: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_simulated: bool
) -> None:
    """The second task of a host gets its next cards; containers count from 0."""
    monkeypatch.setenv("PATH", program_directory(tmp_path, docker=RECORDER.format(folder=tmp_path)))
    hosts = "    - {name: m1, context: there, gpus_per_node: 4}"
    more = "  - {name: b, script: [x], resources: {gpus: {count: 2}}, depends_on: [a]}\n"
    fields = "    resources: {gpus: {count: 2, release_after: workflow_completion}}\n"
    monkeypatch.setenv("SFLOW_SIMULATE_GPUS", str(int(is_simulated)))
    run = start(started, tmp_path, far(hosts, "x", fields + more))
    code, output = run.finish()
    assert code == 0, output
    assert ("simulated" in output) == is_simulated
    calls = [line for line in (tmp_path / "calls").read_text().splitlines() if " run " in line]
    assert [line.startswith("--context there run --name sflow-r-") for line in calls] == [True, True]
    for line, devices in zip(calls, ("0,1", "2,3"), strict=True):
        assert (f'--gpus "device={devices}"' in line) is not is_simulated
        assert "-e CUDA_VISIBLE_DEVICES=0,1" in line
        assert ("NVIDIA_VISIBLE_DEVICES=void" in line) is is_simulated
