"""Real agents and what their tasks print: no spelling of a redirection loses a line, nor does the end of an agent."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from protocol.messages.checks import LogCheck, LogPattern, Probe
from protocol.messages.facts import Notice, ProbeTriggered
from protocol.messages.orders import Watch
from protocol.messages.rank_spec import RankSpec
from tests.integration.agent.fake_controller import FakeController, is_alive, rank_id, spec
from tests.integration.agent.without_syscalls import command, is_supported

Make = Callable[..., FakeController]
SPELLINGS = (
    "echo warn > /dev/stderr",
    "echo warn > /dev/stdout",
    "echo warn > /proc/self/fd/1",
    "echo warn | tee /dev/stderr > /dev/null",
    "echo warn | tee -a /proc/self/fd/2 > /dev/null",
    "echo warn >> /dev/stderr",
    "echo warn >&2",
    "echo warn | dd of=/dev/stderr status=none",
    'python3 -c \'open("/dev/stdout", "w").write("warn\\n")\'',
    "sh -c 'exec 2> /dev/stderr; echo warn >&2'",
)


def direct(made: RankSpec) -> RankSpec:
    return msgspec.structs.replace(made, is_log_direct=True)


def log_probe(pattern: str) -> Probe:
    return Probe(kind="readiness", checks=(LogCheck(pattern=LogPattern(pattern=pattern)),))


def test_public_01_no_spelling_of_a_redirection_loses_a_line(controller: FakeController) -> None:
    names = [f"t{number}" for number in range(len(SPELLINGS))]
    for name, line in zip(names, SPELLINGS, strict=True):
        controller.spawn(spec(name, "bash", "-c", f"seq 1000; {line}; seq 1001 1003"))
    expected = [*map(str, range(1, 1001)), "warn", "1001", "1002", "1003"]
    for name, line in zip(names, SPELLINGS, strict=True):
        assert controller.exited(name).exit_code == 0
        assert controller.log(name).splitlines() == expected, line


def test_public_01_a_probe_sees_lines_after_a_redirection(controller: FakeController) -> None:
    script = "seq 1000; echo warn > /dev/stderr; sleep 0.2; echo READY; sleep 60"
    controller.spawn(spec("a", "bash", "-c", script, probes=(log_probe("READY"),)))
    controller.until(lambda: controller.said(ProbeTriggered), "its readiness", 5.0)


def test_public_01_stdout_and_stderr_keep_their_order(controller: FakeController) -> None:
    controller.spawn(spec("a", "bash", "-c", "for i in $(seq 500); do echo $i; echo $i >&2; done"))
    controller.exited("a")
    assert controller.log("a").splitlines() == [str(i) for i in range(1, 501) for _ in "ab"]


def test_public_01_a_log_that_its_task_truncates_is_read_anew(controller: FakeController) -> None:
    log = controller.directory / "a" / "a.log"
    script = f"seq 1000; sleep 0.3; : > {log}; echo fresh; sleep 0.3; echo READY; sleep 60"
    controller.spawn(spec("a", "bash", "-c", script, probes=(log_probe("READY"),), stream=True))
    controller.until(lambda: controller.said(ProbeTriggered), "its readiness", 5.0)
    assert controller.log("a") == "fresh\nREADY\n"
    controller.until(lambda: b"READY" in controller.received[rank_id("a")], "the rest of the log")
    assert controller.received[rank_id("a")].split() == [
        *(str(i).encode() for i in range(1, 1001)),
        b"fresh",
        b"READY",
    ]
    assert any("was truncated" in notice.text for notice in controller.said(Notice))


def test_public_01_a_spooled_log_has_every_line(make_controller: Make, tmp_path: Path) -> None:
    controller = make_controller().start(spool_directory=str(tmp_path / "spool")).welcome()
    controller.spawn(spec("a", "bash", "-c", "seq 1000; echo warn > /dev/stderr; echo READY"))
    controller.exited("a")
    controller.until(lambda: rank_id("a") in controller.ended_logs, "the end of the log")
    assert controller.received[rank_id("a")].split()[-2:] == [b"warn", b"READY"]
    assert len(controller.received[rank_id("a")].split()) == 1002


def test_a_direct_log_is_a_regular_file_and_is_followed(controller: FakeController) -> None:
    script = "[ -f /proc/self/fd/1 ] && echo regular; sleep 0.2; echo READY; sleep 60"
    controller.spawn(direct(spec("a", "bash", "-c", script, probes=(log_probe("READY"),))))
    controller.until(lambda: controller.said(ProbeTriggered), "its readiness", 5.0)
    assert controller.log("a") == "regular\nREADY\n"


@pytest.mark.skipif(not is_supported(), reason="system calls of this machine are not known here")
@pytest.mark.parametrize("is_direct", [True, False])
def test_public_02_no_limit_of_inotify_blinds_a_probe_or_a_watcher(
    make_controller: Make, is_direct: bool
) -> None:
    controller = make_controller().start(before=command("EMFILE", "inotify_init1")).welcome()
    made = spec("a", "bash", "-c", "sleep 0.2; echo READY; sleep 60", probes=(log_probe("READY"),))
    controller.spawn(direct(made) if is_direct else made)
    controller.started("a")
    controller.order(Watch(rank=rank_id("a"), offset=0))
    controller.until(lambda: controller.said(ProbeTriggered), "its readiness", 3.0)
    controller.until(
        lambda: bytes(controller.received.get(rank_id("a"), b"")) == b"READY\n", "its output", 3.0
    )


@pytest.mark.skipif(not is_supported(), reason="system calls of this machine are not known here")
def test_where_splice_is_missing_output_is_copied(make_controller: Make) -> None:
    controller = make_controller().start(before=command("ENOSYS", "splice")).welcome()
    controller.spawn(spec("a", "sh", "-c", "seq 100000"))
    assert controller.exited("a").log_bytes == 588895
    assert controller.log("a").splitlines()[-1] == "100000"


def test_an_exit_comes_after_all_that_was_printed_before_it(controller: FakeController) -> None:
    controller.spawn(spec("a", "sh", "-c", "seq 1000000"))
    ended = controller.exited("a")
    assert ended.log_bytes == 6888896
    assert (controller.directory / "a" / "a.log").stat().st_size == 6888896


def test_a_background_child_holds_up_no_exit_and_loses_no_line(controller: FakeController) -> None:
    """It ignores SIGTERM, so the grace is its time to print."""
    child = "trap '' TERM; sleep 0.4; echo late"
    controller.spawn(spec("a", "bash", "-c", f"({child}) & sleep 0.1; echo main", grace_s=5.0))
    started = time.monotonic()
    assert controller.exited("a").exit_code == 0
    assert time.monotonic() - started < 0.45
    controller.cleared("a")
    assert controller.log("a") == "main\nlate\n"


def test_a_killed_agent_loses_no_line_of_its_tasks(controller: FakeController) -> None:
    """The guardian has the pipes, too: what tasks print while they end is in their logs."""
    program = (
        "import signal, sys\n"
        "def end(*_): print('\\n'.join(map(str, range(1, 20001)))); sys.stdout.flush(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()"
    )
    controller.spawn(spec("a", sys.executable, "-c", program, probes=(log_probe("up"),)))
    controller.until(lambda: controller.said(ProbeTriggered), "its first line")
    pid = controller.started("a").pid
    time.sleep(0.1)  # the guardian is given a pipe within 30 ms
    os.kill(controller.agent, 9)
    controller.until(lambda: not is_alive(pid), "the end of the task")
    controller.exit_status()
    assert controller.log("a").split() == ["up", *map(str, range(1, 20001))]


def test_a_log_that_cannot_be_written_stops_no_task(controller: FakeController) -> None:
    """A limit of file size stands for a full disk: it is the agent's own, tasks start without it."""
    import resource

    resource.prlimit(controller.agent, resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
    script = f"{sys.executable} -c 'import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (-1, -1)); print(\"y\" * 300000)'"
    controller.spawn(spec("a", "sh", "-c", f"{script}; echo end"))
    assert controller.exited("a").exit_code == 0
    controller.until(
        lambda: any("cannot be written" in notice.text for notice in controller.said(Notice)), "a warning"
    )


@pytest.mark.parametrize(
    "deed",
    [
        "rm {log}",
        "rm -rf {directory}",
        "rm -rf {directory}; mkdir {directory}",
        "mv {log} {log}.1",
    ],
)
@pytest.mark.parametrize("prints_more", [True, False])
def test_public_01_a_log_that_its_task_deletes_or_renames_is_put_back(
    controller: FakeController, deed: str, prints_more: bool
) -> None:
    log = controller.directory / "a" / "a.log"
    deed = deed.format(log=log, directory=log.parent)
    rest = "echo after; sleep 0.2; echo READY" if prints_more else "sleep 0.1"
    probes = (log_probe("READY"),) if prints_more else ()
    controller.spawn(
        spec("a", "bash", "-c", f"seq 1000; sleep 0.1; {deed}; {rest}", probes=probes, stream=True)
    )
    assert controller.exited("a").exit_code == 0
    expected = [*map(str, range(1, 1001)), *(["after", "READY"] if prints_more else [])]
    assert controller.log("a").split() == expected
    controller.until(lambda: rank_id("a") in controller.ended_logs, "the end of the log")
    assert controller.received[rank_id("a")].decode().split() == expected
    assert bool(controller.said(ProbeTriggered)) == prints_more
    controller.until(lambda: controller.said(Notice), "the notice")
    notices = [notice.text for notice in controller.said(Notice) if "a.log" in notice.text]
    assert len(notices) == 1
    assert "was deleted or renamed while its task ran: it was written again" in notices[0]


def test_public_01_a_log_that_its_task_replaces_is_continued(controller: FakeController) -> None:
    log = controller.directory / "a" / "a.log"
    script = f"seq 1000; sleep 0.1; rm {log}; echo mine > {log}; echo after; sleep 0.1; echo READY"
    controller.spawn(spec("a", "bash", "-c", script, probes=(log_probe("READY"),)))
    controller.exited("a")
    assert controller.log("a") == "mine\nafter\nREADY\n"
    assert controller.said(ProbeTriggered)


def test_public_01_a_killed_agent_writes_into_the_log_that_was_put_back(controller: FakeController) -> None:
    log = controller.directory / "a" / "a.log"
    script = f"trap 'echo last; exit' TERM; sleep 0.1; rm {log}; echo up; while :; do sleep 0.05; done"
    controller.spawn(spec("a", "bash", "-c", script, probes=(log_probe("up"),)))
    controller.until(lambda: controller.said(ProbeTriggered), "its line after the deletion")
    pid = controller.started("a").pid
    time.sleep(0.1)  # the guardian is given the new file with the next turn of the loop
    os.kill(controller.agent, 9)
    controller.until(lambda: not is_alive(pid), "the end of the task")
    controller.exit_status()
    of_bash = "Terminated"  # its word for a sleep that the signal met
    assert [word for word in controller.log("a").split() if word != of_bash] == ["up", "last"]


def test_public_01_the_log_of_an_earlier_attempt_is_not_put_back(controller: FakeController) -> None:
    """What is left of the first attempt prints when the second one has its log at the path."""
    child = "trap '' TERM; sleep 0.5; echo late"
    controller.spawn(spec("a", "bash", "-c", f"({child}) & sleep 0.1; exit 1", grace_s=5.0))
    assert controller.exited("a").exit_code == 1
    controller.spawn(spec("a", "bash", "-c", "echo second", attempt=2, earlier_log="a/a.attempt-1.log"))
    controller.until(lambda: "second" in controller.log("a"), "the second attempt")
    earlier = controller.directory / "a" / "a.attempt-1.log"
    controller.until(lambda: earlier.read_text() == "late\n", "the line of the first attempt")
    assert controller.log("a") == "second\n"


@pytest.mark.parametrize("deed", [": > {log}", "rm {log}; echo 123456 > {log}", "truncate -s 3 {log}"])
def test_public_01_a_truncated_log_that_is_as_long_again_at_once_is_read_anew(
    controller: FakeController, deed: str
) -> None:
    """Its size alone does not show it."""
    log = controller.directory / "a" / "a.log"
    more = "echo READY $(seq 20)"
    script = f"echo abc; sleep 0.3; {deed.format(log=log)}; {more}; sleep 0.3; echo end; sleep 60"
    controller.spawn(spec("a", "bash", "-c", script, probes=(log_probe("READY"),), stream=True))
    controller.until(lambda: controller.said(ProbeTriggered), "its readiness", 5.0)
    controller.until(lambda: b"end" in controller.received[rank_id("a")], "the rest of the log")
    received = controller.received[rank_id("a")].decode()
    assert received.startswith("abc\n")
    assert received.endswith(controller.log("a"))
    assert received.count("READY") == 1
