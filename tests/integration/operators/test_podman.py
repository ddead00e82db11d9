"""Tasks in real containers: their view, how they end, and that nothing of them is left."""

import os
import signal
from pathlib import Path

import pytest

from sflow_ctl.report.summary import Summary
from tests.integration.operators.podman import IMAGE, Podman
from tests.support import Run, both_of, nothing_left, parent_of, sflow_ctl, wait_until

DOCKER = f"{{type: docker, runtime: podman, image: '{IMAGE}', extra_args: ['--network=host']}}"
CONTAINER = f"{{type: container, engine: podman, image: '{IMAGE}'}}"
STUBBORN = "trap '' TERM; (setsid bash -c 'while :; do sleep 1; done' &) ; echo up; while :; do sleep 1; done"


FINAL = "      on_node_lost: fail\n"
"""That its node's agent was killed is the end of the task."""


def workflow(operator: str, script: str, more: str = "") -> str:
    """One task, which runs in a container."""
    lines = "\n".join(f"        {line}" for line in script.splitlines())
    return f"""
version: "0.1"
variables: {{TEXT: "a 'b' \\"c\\"\\nd $x"}}
operators: {{box: {operator}}}
workflow:
  name: w
  tasks:
    - name: a
      operator: box
      script:
      - |
{lines}
{more}"""


def start(started: list[Run], tmp_path: Path, text: str, *arguments: str) -> Run:
    run = Run.start(text, tmp_path, *arguments)
    started.append(run)
    return run


def log_of(run: Run) -> str:
    return (run.directory / "a" / "a.log").read_text()


def up(run: Run) -> None:
    """Wait until the task's script has printed that it runs."""
    log = run.directory / "a" / "a.log"
    wait_until(lambda: log.exists() and "up\n" in log.read_text(), "the task runs")


def summary_after(run: Run) -> Summary:
    _, output = run.finish()
    assert "Traceback" not in output
    nothing_left(run)
    return run.summary()


@pytest.mark.parametrize("operator", [DOCKER, CONTAINER])
def test_a_container_has_the_environment_and_gives_its_status(
    podman: Podman, started: list[Run], tmp_path: Path, operator: str
) -> None:
    script = """
printf '%s|' "$TEXT"; echo; echo $SFLOW_TASK_NAME $SFLOW_ATTEMPT "${PODMAN_NOT_HERE-unset}"
test -e /etc/debian_version || echo inside
echo one; echo two >&2; echo three
exit 7"""
    run = start(started, tmp_path, workflow(operator, script))
    assert run.finish()[0] == 1
    assert run.summary().tasks[0].exit_code == 7
    assert log_of(run) == "a 'b' \"c\"\nd $x|\na 1 unset\ninside\none\ntwo\nthree\n"


def test_the_directories_of_the_run_are_inside(podman: Podman, started: list[Run], tmp_path: Path) -> None:
    (tmp_path / "input").write_text("from the workspace\n")
    script = 'cat "$SFLOW_WORKSPACE_DIR/input"; echo written > "$SFLOW_TASK_OUTPUT_DIR/out"'
    run = start(started, tmp_path, workflow(CONTAINER, script))
    assert run.finish()[0] == 0, log_of(run)
    assert log_of(run) == "from the workspace\n"
    assert (run.directory / "a" / "out").read_text() == "written\n"


def test_each_attempt_has_a_container_of_its_own(podman: Podman, started: list[Run], tmp_path: Path) -> None:
    more = "      retries: {count: 2, interval: 0}"
    run = start(
        started, tmp_path, workflow(DOCKER, "echo attempt $SFLOW_ATTEMPT; test $SFLOW_ATTEMPT = 3", more)
    )
    code, output = run.finish()
    assert code == 0, output
    assert log_of(run) == "attempt 3\n"


def test_a_cancelled_container_gets_sigterm(podman: Podman, started: list[Run], tmp_path: Path) -> None:
    script = "trap 'echo got it; exit 3' TERM; echo up; sleep 600 & wait"
    run = start(started, tmp_path, workflow(DOCKER, script))
    up(run)
    assert [name.startswith("sflow-r-") for name in podman.containers()] == [True]
    run.process.send_signal(signal.SIGINT)
    assert summary_after(run).tasks[0].exit_code == 3
    assert "got it\n" in log_of(run)
    assert podman.containers() == []


def test_a_script_without_a_handler_ends_at_once(podman: Podman, started: list[Run], tmp_path: Path) -> None:
    """As a container's first process it would get no SIGTERM at all."""
    run = start(started, tmp_path, workflow(DOCKER, "echo up; sleep 600"))
    up(run)
    run.process.send_signal(signal.SIGINT)
    (task,) = summary_after(run).tasks
    assert task.exit_code == 128 + signal.SIGTERM


@pytest.mark.parametrize("operator", [DOCKER, CONTAINER])
def test_a_container_that_ignores_sigterm_is_removed_after_the_grace(
    podman: Podman, started: list[Run], tmp_path: Path, operator: str
) -> None:
    run = start(started, tmp_path, workflow(operator, STUBBORN, "      timeout: 2"))
    up(run)
    assert summary_after(run).tasks[0].state.value == "timeout"
    assert podman.containers() == []


def test_a_container_whose_client_is_killed_is_removed(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, workflow(DOCKER, STUBBORN))
    up(run)
    os.kill(run.pid_of("a"), signal.SIGKILL)
    assert summary_after(run).tasks[0].state.value == "failed"
    assert podman.containers() == []


def test_the_guardian_removes_containers_when_the_agent_is_killed(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, workflow(DOCKER, STUBBORN, FINAL))
    up(run)
    (agent,) = run.agents()
    os.kill(agent, signal.SIGKILL)
    summary_after(run)
    wait_until(lambda: not podman.containers(), "the container is gone")


def test_containers_end_when_agent_and_guardian_are_killed(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, workflow(CONTAINER, STUBBORN, FINAL))
    up(run)
    (agent,) = run.agents()
    guardian = parent_of(agent)
    os.kill(guardian, signal.SIGKILL)
    os.kill(agent, signal.SIGKILL)
    summary_after(run)


def test_a_second_interrupt_removes_it_at_once(podman: Podman, started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, workflow(DOCKER, STUBBORN))
    up(run)
    run.process.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping" in str(run.states().get("a")), "the stop")
    run.process.send_signal(signal.SIGINT)
    summary_after(run)
    assert podman.containers() == []


def test_n4_the_keeper_removes_containers_when_all_others_are_killed(
    podman: Podman, started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, workflow(DOCKER, STUBBORN))
    up(run)
    (agent,) = run.agents()
    ours = (*both_of(run.process.pid), parent_of(agent), agent)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in ours:
            os.kill(pid, number)
    run.finish()
    nothing_left(run)
    wait_until(lambda: podman.containers() == [], "the container is removed")


def test_exec_enters_the_container(started: list[Run], podman: Podman, tmp_path: Path) -> None:
    run = start(started, tmp_path, workflow(CONTAINER, "touch /inside\necho up\nsleep 600\ntrue"))
    up(run)
    inside = sflow_ctl(
        "exec", "a", "--", "/bin/bash", "-c", "[ -e /inside ] && echo $SFLOW_TASK_NAME; exit 7", cwd=tmp_path
    )
    assert (inside.returncode, inside.stdout) == (7, "a\n"), inside.stderr
    assert sflow_ctl("stop", cwd=tmp_path).returncode == 0
    nothing_left(run)


ENVIRONMENT = """environments:
  e: {source: "${{ variables.PLACE }}/env.sh", env: {B: "it's b"}, before: ["export C=$A-$B"]}
  gone: {source: gone.sh}
"""


@pytest.mark.parametrize("operator", [DOCKER, CONTAINER])
def test_an_environment_is_set_up_inside_the_container(
    podman: Podman, started: list[Run], tmp_path: Path, operator: str
) -> None:
    (tmp_path / "env.sh").write_text("export A=a\ntest -e /etc/debian_version || export A=inside\n")
    operator = operator.replace("'--network=host'", f"'--network=host', '--volume={tmp_path}:{tmp_path}'")
    text = workflow(operator, 'echo "$C"', "      environment: e\n").replace("{TEXT:", "{PLACE: x, TEXT:")
    more = "    - {name: b, depends_on: [a], operator: box, environment: gone, retries: 2, script: [date]}\n"
    run = start(
        started,
        tmp_path,
        f"{text}{more}".replace("workflow:\n", f"{ENVIRONMENT}workflow:\n", 1),
        "--set",
        f"PLACE={tmp_path}",
    )
    assert run.finish()[0] == 1
    assert log_of(run).splitlines()[-1] == "inside-it's b"
    bad = run.summary().tasks[1]
    assert (bad.reason_word, bad.attempts) == ("bootstrap", 1), bad.reason
    assert "gone.sh" in bad.reason
