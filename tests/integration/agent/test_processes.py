"""Ranks as real processes: how they start, their environment, how they end, and that no process is left."""

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.messages.checks import ExecCheck, HttpCheck, Probe
from protocol.messages.facts import LaunchFailed, ProbeTriggered, RankExited
from protocol.messages.orders import Spawn
from sflow_agent.limits import MOST as OPEN_FILES
from tests.integration.agent.fake_controller import FakeController, is_alive, marked, rank_id, spec, state

Make = Callable[..., FakeController]
CHECK = 'test "$(ulimit -Sn)" = 300'


def pid_in(controller: FakeController, path: Path) -> int:
    """The pid a task has written into a file."""
    controller.until(lambda: path.exists() and path.read_text().endswith("\n"), f"{path}")
    return int(path.read_text())


def test_exit_code_output_and_size_of_the_log_are_reported(controller: FakeController) -> None:
    controller.spawn(spec("a", "sh", "-c", "echo out; echo err >&2; exit 7"))
    ended = controller.cleared("a")
    assert isinstance(ended, RankExited)
    assert (ended.exit_code, ended.signal, ended.log_bytes, ended.cleared) == (7, None, 8, True)
    assert controller.log("a") == "out\nerr\n"
    assert (controller.directory / "a" / "a.log").stat().st_mode & 0o777 == 0o600
    assert controller.leave() == 0


def test_f42_an_agent_may_open_many_files_and_its_tasks_as_many_as_before(
    make_controller: Make,
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    controller = make_controller()
    controller.start(before=("prlimit", "--nofile=300:")).welcome()
    controller.spawn(
        spec("a", "sh", "-c", "ulimit -Sn; ulimit -Hn", probes=()),
        spec(
            "b",
            "sh",
            "-c",
            "sleep 60",
            probes=(Probe(kind="readiness", checks=(ExecCheck(argv=("sh", "-c", CHECK)),)),),
        ),
    )
    controller.exited("a")
    assert controller.log("a").split() == ["300", "unlimited" if hard == -1 else str(hard)]
    controller.until(lambda: controller.said(ProbeTriggered), "the check's program has the task's limit")
    own, _ = resource.prlimit(controller.agent, resource.RLIMIT_NOFILE)
    assert own == (OPEN_FILES if hard == -1 else min(hard, OPEN_FILES)) > 300


def test_f42_tasks_start_while_the_agent_has_more_files_open_than_they_may(make_controller: Make) -> None:
    controller = make_controller()
    controller.start(before=("prlimit", "--nofile=64:")).welcome()
    names = [f"t{number}" for number in range(80)]
    with socket.create_server(("127.0.0.1", 0), backlog=len(names)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"  # never answers: each check holds a descriptor
        hold = Probe(kind="readiness", checks=(HttpCheck(method="GET", url=url),), timeout_s=60.0)
        controller.spawn(*(spec(name, "sleep", "60", probes=(hold,)) for name in names))
        descriptors = Path(f"/proc/{controller.agent}/fd")
        controller.until(lambda: len(list(descriptors.iterdir())) > 64 + 8, "many descriptors", within_s=60)
        controller.spawn(spec("late", "sh", "-c", "ulimit -Sn"))
        assert controller.exited("late").exit_code == 0
    assert controller.log("late") == "64\n"


def test_f39_death_by_signal_is_reported(controller: FakeController) -> None:
    controller.spawn(spec("a", "sh", "-c", "kill -SEGV $$"))
    assert controller.exited("a").signal == signal.SIGSEGV


@pytest.mark.parametrize(
    ("argv", "cwd", "reason"),
    [
        (("no-such-program",), None, "is not on PATH"),
        (("/no/such/program",), None, "does not exist"),
        (("/etc/passwd",), None, "is not executable"),
        (("true",), "/no/such/directory", "working directory /no/such/directory"),
    ],
)
def test_a_failed_start_reports_its_cause(
    controller: FakeController, argv: tuple[str, ...], cwd: str | None, reason: str
) -> None:
    controller.spawn(spec("a", *argv, cwd=cwd))
    controller.until(lambda: controller.said(LaunchFailed), "LaunchFailed")
    assert reason in controller.said(LaunchFailed)[0].reason
    controller.spawn(spec("b", "pwd"))
    assert controller.exited("b").exit_code == 0
    assert controller.log("b").strip() == str(Path.cwd())


def test_a_script_without_an_interpreter_reports_its_cause(
    controller: FakeController, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)
    controller.spawn(spec("a", str(script)))
    controller.until(lambda: controller.said(LaunchFailed), "LaunchFailed")
    assert "names an interpreter" in controller.said(LaunchFailed)[0].reason


def test_a_rank_ordered_twice_is_started_once(controller: FakeController) -> None:
    order = Spawn(ranks=(spec("a", "sh", "-c", "echo once"),))
    controller.order(order, order)
    controller.exited("a")
    controller.order(order)
    controller.spawn(spec("b", "true"))
    controller.exited("b")
    assert controller.log("a") == "once\n"
    assert len([fact for fact in controller.said(RankExited) if fact.rank == rank_id("a")]) == 1


def test_an_earlier_log_is_kept_under_its_new_name(controller: FakeController) -> None:
    controller.spawn(spec("a", "echo", "first"))
    controller.exited("a")
    controller.spawn(spec("a", "echo", "second", attempt=2, earlier_log="a/a.attempt-1.log"))
    controller.exited("a", attempt=2)
    assert controller.log("a") == "second\n"
    assert (controller.directory / "a" / "a.attempt-1.log").read_text() == "first\n"


def test_f29_a_stop_ends_setsid_children_and_double_forked_grandchildren(controller: FakeController) -> None:
    controller.spawn(spec("a", "sh", "-c", "setsid sleep 600 & (setsid sleep 601 &) ; echo up; sleep 602"))
    controller.until(lambda: len(marked(controller.marker)) == 4, "four processes")
    controller.stop("a", grace_s=5)
    assert controller.cleared("a")
    assert marked(controller.marker) == []


def test_children_of_other_threads_get_the_stop_too(controller: FakeController, tmp_path: Path) -> None:
    told = tmp_path / "told"
    child = f"trap 'echo 1 > {told}; exit' TERM; echo up; while :; do sleep 0.05; done"
    program = (
        "import subprocess, threading, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        f"t = threading.Thread(target=lambda: subprocess.run(['setsid', 'sh', '-c', {child!r}]))\n"
        "t.start(); t.join(); signal.pause()\n"
    )
    controller.spawn(spec("a", sys.executable, "-S", "-c", program))
    controller.started("a")
    log = controller.directory / "a" / "a.log"
    controller.until(lambda: log.read_text() == "up\n", "the child")
    controller.stop("a", grace_s=8)
    pid_in(controller, told)
    controller.stop("a", grace_s=0)
    controller.cleared("a")
    assert marked(controller.marker) == []


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(controller: FakeController) -> None:
    controller.spawn(spec("a", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"))
    controller.started("a")
    controller.until(lambda: controller.log("a") == "up\n", "the trap")
    controller.stop("a", grace_s=0.2)
    ended = controller.exited("a")
    assert ended.signal == signal.SIGKILL
    controller.cleared("a")
    assert marked(controller.marker) == []


def test_a_stopped_process_obeys_term(controller: FakeController) -> None:
    controller.spawn(spec("a", "sleep", "600"))
    pid = controller.started("a").pid
    os.kill(pid, signal.SIGSTOP)
    controller.until(lambda: state(pid) == "T", "its stop")
    controller.stop("a", grace_s=8)
    assert controller.exited("a").signal == signal.SIGTERM


def test_f30_leftovers_that_hold_the_output_hold_up_no_end(controller: FakeController) -> None:
    controller.spawn(spec("a", "sh", "-c", "setsid sh -c \"trap '' TERM; sleep 600; sleep 601\" & echo $!"))
    ended = controller.exited("a")
    assert (ended.exit_code, ended.cleared) == (0, False)
    assert controller.cleared("a") is not ended
    assert marked(controller.marker) == []


def test_the_daemon_of_a_live_task_is_left_alone(controller: FakeController, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    daemon = f"(setsid sh -c 'echo $$ > {pid_file}; exec sleep 600' &)"
    controller.spawn(spec("a", "sh", "-c", f"{daemon}; exec sleep 601"))
    pid = pid_in(controller, pid_file)
    for number in range(5):
        controller.spawn(spec(f"b{number}", "sh", "-c", "sleep 0.01"))
        assert controller.exited(f"b{number}").cleared
    assert is_alive(pid)
    controller.stop("a")
    controller.cleared("a")
    assert not is_alive(pid)


def test_the_daemon_of_another_rank_of_the_same_attempt_is_left_alone(
    controller: FakeController, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    daemon = f"(setsid sh -c 'echo $$ > {pid_file}; exec sleep 600' &)"
    controller.spawn(
        spec("a", "sh", "-c", f"{daemon}; exec sleep 601"),
        spec("a", "sh", "-c", f"while ! test -s {pid_file}; do sleep 0.01; done", rank=1),
    )
    pid = pid_in(controller, pid_file)
    assert controller.exited("a", rank=1).cleared
    assert is_alive(pid)


def test_f40_a_thousand_short_orphans_leave_no_zombie(controller: FakeController) -> None:
    loop = "i=0; while test $i -lt 1000; do (true & ) ; i=$((i+1)); done"
    controller.spawn(spec("a", "sh", "-c", loop))
    controller.cleared("a")
    children = Path(f"/proc/{controller.agent}/task/{controller.agent}/children")
    controller.until(lambda: children.read_text() == "", "an agent without children")


def test_many_ranks_are_stopped_by_one_scan(controller: FakeController) -> None:
    names = [f"t{number}" for number in range(150)]
    controller.spawn(*(spec(name, "sleep", "600") for name in names))
    for name in names:
        controller.started(name)
    for name in names:
        controller.stop(name, grace_s=9)
    controller.until(lambda: len(controller.said(RankExited)) == len(names), "all exits", within_s=5)
    assert {fact.signal for fact in controller.said(RankExited)} == {signal.SIGTERM}


def test_f41_a_rank_gets_three_descriptors_and_a_clean_environment(make_controller: Make) -> None:
    controller = make_controller()
    controller.start(
        env={
            "SLURM_PROCID": "3",
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NODELIST": "x",
            "PMI_RANK": "1",
            "PMIX_RANK": "1",
            "OMPI_COMM_WORLD_RANK": "1",
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "KEPT": "yes",
        },
    ).welcome()
    show = "ls /proc/self/fd | grep -cE '^[012]$'; ls /proc/self/fd | wc -l; env; readlink /proc/self/fd/0"
    controller.spawn(spec("a", "sh", "-c", show, env={"MINE": "1", "SFLOW_RUN_MARKER": "not this"}))
    controller.exited("a")
    log = controller.log("a")
    lines = log.splitlines()
    assert lines[:2] == ["3", "4"]  # the fourth is ls's own, of the directory
    assert lines[-1] == "/dev/null"
    assert {"KEPT=yes", "MINE=1", "SLURM_JOB_ID=77", "SLURM_JOB_NODELIST=n[1-2]"} <= set(lines)
    assert {f"SFLOW_RUN_MARKER={controller.marker}", "SFLOW_ATTEMPT_ID=a#1"} <= set(lines)
    for name in ("SLURM_PROCID", "SLURM_STEP", "PMI", "OMPI", "SFLOW_AGENT"):
        assert not [line for line in lines if line.startswith(name)], name


def test_f41_no_key_is_where_a_task_could_read_it(make_controller: Make) -> None:
    controller = make_controller().start().welcome()
    controller.spawn(spec("a", "sleep", "600"))
    pid = controller.started("a").pid
    secrets = (controller.agent_secret, controller.secret)
    for process in (pid, controller.agent, controller.guardian):
        for name in ("environ", "cmdline"):
            content = Path(f"/proc/{process}/{name}").read_bytes()
            assert not [secret for secret in secrets if secret in content]


def test_f41_a_configuration_in_the_environment_is_wiped(make_controller: Make) -> None:
    import base64

    from protocol.messages.config import StepConfig
    from protocol.session.codec import encode

    controller = make_controller()
    step = StepConfig(common=controller.config(), nodes=("n0",), key_seed=bytes(range(32)))
    encoded = base64.b64encode(encode(step)).decode()
    controller.start(env={"SFLOW_AGENT_CONFIG": encoded, "SLURMD_NODENAME": "n0"}).welcome()
    controller.spawn(spec("a", "env"))
    controller.exited("a")
    assert "SFLOW_AGENT_CONFIG" not in controller.log("a")
    for process in (controller.agent, controller.guardian):
        assert encoded[20:60].encode() not in Path(f"/proc/{process}/environ").read_bytes()
