"""Logs on their way to a controller, and probes of real ports and files."""

import hashlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from protocol.ids import ProbeKey
from protocol.messages.checks import LogCheck, LogPattern, Probe, TcpCheck
from protocol.messages.facts import LogSearch, ProbeTriggered, ProbeWaiting
from protocol.messages.orders import LogMatched, Watch
from protocol.messages.rank_spec import RankSpec
from tests.integration.agent.fake_controller import FakeController, rank_id, spec

Make = Callable[..., FakeController]
READY = LogPattern(pattern="server ready")


def python(task: str, program: str, *probes: Probe, stream: bool = False) -> RankSpec:
    return spec(task, sys.executable, "-S", "-c", program, probes=probes, stream=stream)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def listener(port: int, wait: str = "") -> str:
    return (
        f"import socket, time, os\n{wait}\ns = socket.socket()\n"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        f"s.bind(('127.0.0.1', {port})); s.listen(); print(time.monotonic(), flush=True); time.sleep(600)\n"
    )


def triggered(controller: FakeController, task: str, within_s: float = 10.0) -> ProbeTriggered:
    def find() -> list[ProbeTriggered]:
        return [fact for fact in controller.said(ProbeTriggered) if fact.attempt.task == task]

    controller.until(find, f"the probe of {task}", within_s)
    return find()[0]


def wakeups(pid: int) -> int:
    """Return how often the process's main thread has waited and run again: a measure of its work on any machine."""
    (line,) = [
        x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("voluntary_ctxt")
    ]
    return int(line.split()[1])


# ---------------------------------------------------------------------- logs


def test_an_unshared_log_arrives_byte_for_byte_and_the_spool_goes(
    make_controller: Make, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    controller = make_controller().start(spool_directory=str(spool)).welcome()
    assert not controller.hellos[0].shares_run_directory
    controller.spawn(
        python("a", "import os, sys; sys.stdout.buffer.write(os.urandom(3_000_000))"), spec("b", "true")
    )
    controller.cleared("a")
    controller.cleared("b")
    controller.until(lambda: rank_id("a") in controller.ended_logs, "its end")
    assert rank_id("b") not in controller.ended_logs, "the report of the exit says that its log is empty"
    (directory,) = spool.iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "a" / "a.log").read_bytes() == controller.received[rank_id("a")]
    assert not (controller.directory / "a").exists()
    assert controller.leave() == 0
    assert list(spool.iterdir()) == []


def test_a_run_directory_without_our_nonce_is_not_shared(make_controller: Make) -> None:
    controller = make_controller().start(nonce="another").welcome()
    assert not controller.hellos[0].shares_run_directory


def test_a_spool_survives_a_new_session_in_the_middle(make_controller: Make, tmp_path: Path) -> None:
    controller = make_controller(heartbeat_s=0.2)
    controller.start(spool_directory=str(tmp_path / "spool")).welcome()
    controller.acknowledges_logs = False
    program = "import sys\nfor i in range(200_000): sys.stdout.write(f'{i:060d}\\n')\n"
    controller.spawn(python("a", program))
    controller.cleared("a")
    controller.until(
        lambda: len(controller.received.get(rank_id("a"), b"")) >= 4 * 1024 * 1024, "a full window"
    )
    session, before = controller.session, wakeups(controller.agent)
    controller.is_mute = True
    since = time.monotonic()
    controller.until(lambda: time.monotonic() > since + 1.2, "a silence")
    assert wakeups(controller.agent) - before < 400, "an agent that cannot send must not spin"
    controller.received.clear()  # what was in flight is lost
    controller.is_mute, controller.acknowledges_logs = False, True
    controller.until(lambda: controller.session != session, "a new session")
    controller.until(lambda: rank_id("a") in controller.ended_logs, "its end")
    expected = b"".join(b"%060d\n" % i for i in range(200_000))
    received = bytes(controller.received[rank_id("a")])
    assert hashlib.sha256(received).digest() == hashlib.sha256(expected).digest()


def test_a_shared_log_is_streamed_while_it_grows_and_from_where_a_watcher_asks(
    controller: FakeController,
) -> None:
    controller.spawn(spec("a", "sh", "-c", "echo one; sleep 0.2; echo two; sleep 600", stream=True))
    controller.until(lambda: bytes(controller.received.get(rank_id("a"), b"")) == b"one\ntwo\n", "both lines")
    controller.spawn(spec("b", "sh", "-c", "echo one; echo two; sleep 600"))
    controller.until(lambda: (controller.directory / "b/b.log").exists(), "its log")
    controller.until(lambda: controller.log("b") == "one\ntwo\n", "its lines")
    controller.received[rank_id("b")] = bytearray(b"xxxx")
    controller.order(Watch(rank=rank_id("b"), offset=4))
    controller.until(lambda: controller.received[rank_id("b")] == b"xxxxtwo\n", "the rest")


# ---------------------------------------------------------------------- probes


def test_f27_a_pattern_is_seen_across_chunks_colours_and_returns(controller: FakeController) -> None:
    program = (
        "import os, time\n"
        "for part in (b'10%\\r20%\\rser', b'ver \\x1b[3', b'2mrea', b'dy\\x1b[0m'):\n"
        "    os.write(1, part); time.sleep(0.03)\n"
        "time.sleep(600)\n"
    )
    controller.spawn(python("a", program, Probe(kind="readiness", checks=(LogCheck(pattern=READY),))))
    assert triggered(controller, "a").detail == "server ready"


def test_a_failure_pattern_counts_matches_and_checks(controller: FakeController) -> None:
    pattern = LogPattern(pattern=r"^error \d+$", is_regex=True, count=3)
    program = (
        "import time\nfor i in range(3): print('error', i, flush=True); time.sleep(0.02)\ntime.sleep(600)\n"
    )
    controller.spawn(
        python(
            "a",
            program,
            Probe(kind="failure", checks=(LogCheck(pattern=pattern),), threshold=3, interval_s=0.05),
        )
    )
    assert triggered(controller, "a").kind == "failure"


def test_the_log_of_another_task_is_watched_before_it_exists(controller: FakeController) -> None:
    controller.spawn(
        spec(
            "a",
            "sleep",
            "600",
            probes=(Probe(kind="readiness", checks=(LogCheck(pattern=READY, task="b"),)),),
        )
    )
    controller.started("a")
    controller.spawn(spec("b", "sh", "-c", "echo the server ready now; sleep 600"))
    assert triggered(controller, "a").detail == "the server ready now"


def test_an_agent_without_the_run_directory_asks_for_the_log_of_another_task(
    make_controller: Make, tmp_path: Path
) -> None:
    controller = make_controller(heartbeat_s=0.2)
    controller.start(spool_directory=str(tmp_path / "spool")).welcome()
    probe = Probe(kind="readiness", checks=(LogCheck(pattern=READY, task="b"),))
    controller.spawn(*(spec(task, "sleep", "600", probes=(probe,)) for task in ("a", "c")))
    asked = {
        rank_id(task): LogSearch(rank=rank_id(task), key=ProbeKey("readiness", 0), task="b", pattern=READY)
        for task in "ac"
    }
    controller.until(lambda: {one.rank: one for one in controller.said(LogSearch)} == asked, "both searches")
    controller.facts.clear()
    session = controller.session
    controller.session = ""  # says hello anew, as after a break
    controller.until(lambda: controller.session not in ("", session), "a new session", 30.0)
    controller.until(lambda: {one.rank: one for one in controller.said(LogSearch)} == asked, "both again")
    controller.order(LogMatched(rank=rank_id("a"), key=ProbeKey("readiness", 0), line="the server ready now"))
    assert triggered(controller, "a").detail == "the server ready now"
    controller.stop("c")
    controller.cleared("c")
    over = LogSearch(rank=rank_id("c"), key=ProbeKey("readiness", 0), task="b")
    assert controller.said(LogSearch)[-1] == over


def test_readiness_follows_the_bind_whatever_the_interval(controller: FakeController) -> None:
    port = free_port()
    probe = Probe(kind="readiness", checks=(TcpCheck(port=port),), interval_s=60.0)
    controller.spawn(python("a", listener(port, "time.sleep(0.3)"), probe))
    triggered(controller, "a")
    seen = time.monotonic()
    bound = float(controller.log("a"))
    assert seen - bound < probe.interval_s  # the port's opening was seen, nothing was asked
    assert controller.said(ProbeTriggered)[0].detail == f"port {port} is listening"


def test_f23_a_foreign_process_on_the_port_makes_no_task_ready(controller: FakeController) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = int(stranger.getsockname()[1])
        controller.spawn(
            spec("a", "sleep", "600", probes=(Probe(kind="readiness", checks=(TcpCheck(port=port),)),)),
            python("b", listener(free_port())),
        )
        controller.started("b")
        own = free_port()
        controller.spawn(python("c", listener(own), Probe(kind="readiness", checks=(TcpCheck(port=own),))))
        triggered(controller, "c")
        assert not [fact for fact in controller.said(ProbeTriggered) if fact.attempt.task == "a"]
        controller.until(lambda: controller.said(ProbeWaiting), "what it waits for")
        said = controller.said(ProbeWaiting)[0].detail
        assert said.startswith(f"port {port} is taken by process {os.getpid()} ")


def test_a_port_of_a_grandchild_counts(controller: FakeController) -> None:
    port = free_port()
    argv = f"['setsid', sys.executable, '-S', '-c', {listener(port)!r}]"
    program = f"import subprocess, sys\nsubprocess.run({argv})\n"
    controller.spawn(
        python("a", program, Probe(kind="readiness", checks=(TcpCheck(port=port),), delay_s=0.1))
    )
    triggered(controller, "a")


def test_a_ready_service_costs_the_agent_nothing(controller: FakeController) -> None:
    port = free_port()
    controller.spawn(python("a", listener(port), Probe(kind="readiness", checks=(TcpCheck(port=port),))))
    triggered(controller, "a")
    before, since = wakeups(controller.agent), time.monotonic()
    controller.until(lambda: time.monotonic() > since + 1.0, "a second")
    assert wakeups(controller.agent) - before < 50


def test_a_named_host_that_is_this_node_is_watched_here(controller: FakeController) -> None:
    port = free_port()
    probe = Probe(kind="readiness", checks=(TcpCheck(port=port, host="127.0.0.1"),), interval_s=60.0)
    controller.spawn(python("a", listener(port, "time.sleep(0.1)"), probe))
    triggered(controller, "a")
