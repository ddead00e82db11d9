"""The console on real pipes and pseudo-terminals."""

import os
import pty
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sflow_ctl.cli.terminal.console import BUFFER_BYTES, Console
from sflow_ctl.cli.terminal.paint import wants_colours, wants_unicode
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.model import Plan
from tests.integration.output.fleet import DEADLINE_S, Agent, Controller, change, rank_of

PLAN = Plan(workflow="w", nodes=(), tasks=())
PLAIN = {"TERM": "xterm", "LANG": "C.UTF-8", "NO_COLOR": "1"}
S = TaskState


class Reader:
    """Reads a descriptor to its end in a thread; may be held back."""

    def __init__(self, descriptor: int, *, held: bool = False) -> None:
        self.data = b""
        self.go = threading.Event()
        if not held:
            self.go.set()
        self._descriptor = descriptor
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        self.go.wait()
        while True:
            try:
                block = os.read(self._descriptor, 1024 * 1024)
            except OSError:  # the other side of a pseudo-terminal is closed
                return
            if not block:
                return
            self.data += block

    def all(self) -> bytes:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return self.data


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def write_log(directory: Path, task: str, data: bytes) -> None:
    (directory / task).mkdir(exist_ok=True)
    (directory / f"{task}/{task}.log").write_bytes(data)


def test_piped_output_is_complete_and_plain(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    console = Console(PLAN, descriptor=write_end, environ={})
    console.start()
    console.start()  # the run's start and its output service's: still one writer, or lines would mix
    reader = Reader(read_end)
    lines = [b"%06d %s\xff\r" % (number, b"x" * 80) for number in range(50_000)]
    for line in lines:
        console.output("t", line + b"\n")
    console.output("t", b"no newline at the end")
    console.transition(change("t", S.COMPLETED))
    failed = Reason("exit", "exit status 1")
    console.transition(Transition(task="u", attempt=1, old=S.RUNNING, new=S.FAILED, reason=failed))
    assert console.close()
    os.close(write_end)
    shown = reader.all()
    assert shown.count(b"\x1b") == 0
    expected = b"".join(b"[t] " + line + b"\n" for line in lines)
    assert shown == expected + b"-- u failed: exit status 1\n[t] no newline at the end\n"


def test_a_slow_pipe_gets_every_byte_and_holds_up_no_log(tmp_path: Path) -> None:
    data = b"".join(b"%07d" % number + b"y" * 92 + b"\n" for number in range(200_000))
    assert len(data) > 4 * BUFFER_BYTES
    read_end, write_end = os.pipe()
    console = Console(PLAN, descriptor=write_end, environ={})
    reader = Reader(read_end, held=True)
    with Controller(tmp_path, console=console) as controller:
        agent = Agent(controller)
        rank = rank_of("t")
        for offset in range(0, len(data), 100_000):
            agent.send(rank, offset, data[offset : offset + 100_000], is_end=offset + 100_000 >= len(data))
        controller.output.expect(rank, len(data), True)
        controller.until(lambda: controller.completed == [rank], "the file is complete")
        assert not reader.data
        reader.go.set()
        controller.close(30)
        agent.close()
    assert console.close()
    os.close(write_end)
    assert reader.all() == b"".join(b"[t] " + line + b"\n" for line in data.splitlines())


def test_shared_logs_are_shown_to_the_last_byte_without_their_chunks(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    console = Console(PLAN, descriptor=write_end, environ={})
    reader = Reader(read_end)
    write_log(tmp_path, "t", b"first\nlast, without end")
    with Controller(tmp_path, console=console) as controller:
        agent = Agent(controller)
        agent.send(rank_of("t"), 0, b"first\n", is_spool=False)
        controller.until(lambda: agent.acknowledged(rank_of("t")) == 6, "the chunk")
        controller.output.expect(rank_of("t"), 23, False)
        agent.send(rank_of("t"), 6, b"last, without end", is_spool=False, is_end=True)
        agent.close()
    console.close()
    os.close(write_end)
    assert reader.all() == b"[t] first\n[t] last, without end\n"


def test_a_closed_pipe_ends_the_output_and_not_the_run(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    console = Console(PLAN, descriptor=write_end, environ={})
    os.close(read_end)
    data = b"x" * 99 + b"\n"
    with Controller(tmp_path, console=console) as controller:
        agent = Agent(controller)
        rank = rank_of("t")
        for number in range(1_000):
            agent.send(rank, number * 10_000, data * 100, is_end=number == 999)
        controller.output.expect(rank, 10_000_000, True)
        controller.until(lambda: controller.completed == [rank], "the log")
        agent.close()
    console.close()
    os.close(write_end)
    assert (tmp_path / "t/t.log").stat().st_size == 10_000_000


def test_a_reader_that_never_reads_does_not_keep_the_run_from_ending(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    console = Console(PLAN, descriptor=write_end, environ={})
    write_log(tmp_path, "t", b"x" * 10_000_000)
    controller = Controller(tmp_path, console=console)
    controller.output.expect(rank_of("t"), 10_000_000, False)
    controller.close(0.5)
    assert controller.output.counters["console_incomplete"] == 1
    os.close(read_end)  # the writing thread must be gone before its descriptor's number is used again
    console.close()
    os.close(write_end)


def test_a_non_blocking_stream_gets_everything(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    console = Console(PLAN, descriptor=write_end, environ={})
    console.start()
    reader = Reader(read_end)
    for _ in range(100):
        console.output("t", b"z" * 49_999 + b"\n")
        until(lambda: console.room() > 0)
    assert console.close()
    os.close(write_end)
    assert reader.all() == (b"[t] " + b"z" * 49_999 + b"\n") * 100


def test_a_terminal_has_its_progress_line_at_the_bottom(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    console = Console(PLAN, descriptor=theirs, environ=PLAIN)
    console.start()
    reader = Reader(ours)
    console.transition(change("t", S.RUNNING))
    console.output("t", b"50%\r100%\nhello\x1b[2J\n")
    until(lambda: b"1 running" in reader.data)
    console.transition(change("t", S.COMPLETED))
    until(lambda: b"1/0 done" in reader.data)
    assert console.close()
    until(lambda: reader.data.endswith(b"\r\x1b[K"))
    os.close(theirs)
    text = reader.data.replace(b"\r\n", b"\n").decode()
    assert "[t] 100%\n[t] hello\n" in text
    assert "2J" not in text
    os.close(ours)


def test_f62_a_stopped_terminal_shows_how_much_it_missed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    console = Console(PLAN, descriptor=theirs, environ=PLAIN)
    reader = Reader(ours, held=True)
    lines = 300_000
    data = (b"w" * 99 + b"\n") * 1_000
    with Controller(tmp_path, console=console) as controller:
        agent = Agent(controller)
        rank = rank_of("t")
        for number in range(lines // 1_000):
            agent.send(rank, number * len(data), data, is_end=number == lines // 1_000 - 1)
        controller.output.expect(rank, lines * 100, True)
        controller.until(lambda: controller.completed == [rank], "the log is here", 20)
        reader.go.set()
        controller.until(lambda: b"lines skipped" in reader.data, "the notice")
        agent.close()
    until(lambda: not console.is_unread)  # text in the last write comes after the erased progress line
    assert console.close()

    def skipped_note() -> str:
        return next(line for line in reader.data.decode().splitlines() if "lines skipped" in line)

    def has_all() -> bool:  # what was written last may still be on its way through the terminal
        skipped = int(skipped_note().split("\u2026")[1].split()[0])
        return reader.data.count(b"[t] www") + skipped == lines

    until(has_all)
    os.close(theirs)
    assert "t/t.log" in skipped_note()
    os.close(ours)


def test_a_terminal_that_takes_nothing_does_not_keep_the_run_from_ending(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    console = Console(PLAN, descriptor=theirs, environ=PLAIN)
    write_log(tmp_path, "t", b"x" * 99 + b"\n" * 1_000_000)
    controller = Controller(tmp_path, console=console)
    controller.output.expect(rank_of("t"), 1_000_099, False)
    began = time.monotonic()
    controller.close(30)
    console.close(0.2)
    assert time.monotonic() - began < 5
    assert select.select([ours], [], [], 0)[0]
    os.close(ours)
    console.close()
    os.close(theirs)


def test_colours_and_characters_are_asked_for() -> None:
    assert wants_colours(True, {"TERM": "xterm"})
    assert not wants_colours(True, {"TERM": "xterm", "NO_COLOR": "1"})
    assert not wants_colours(True, {"TERM": "dumb"})
    assert not wants_colours(False, {"TERM": "xterm"})
    assert wants_unicode({"LANG": "de_DE.UTF-8"})
    assert not wants_unicode({"LANG": "de_DE.UTF-8", "LC_ALL": "C"})
    assert not wants_unicode({})
