"""What a thread sees of a loop that stands still: where, in which file, and nothing that may be a key."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from protocol.machine.loop_signals import QuietThread, signals_for_children
from protocol.machine.loop_watch import LoopWatch, SpeakerThread, Standstill
from tests.support import wait_until


class Reader:
    """A loop that reads a file, which does not answer."""

    def __init__(self, path: Path) -> None:
        self.watch: LoopWatch | None = None
        self._path = path
        self._thread = threading.Thread(target=self._run, args=("/AAAAC3NzaC1lZDI1NTE5",), daemon=True)

    def start(self) -> LoopWatch:
        self._thread.start()
        return wait_until(lambda: self.watch, "the loop")

    def answer(self) -> None:
        os.close(os.open(self._path, os.O_WRONLY))
        self._thread.join(10)

    def _run(self, key: str) -> None:
        watch = LoopWatch()
        watch.works(time.monotonic())
        self.watch = watch
        self._path.read_text()
        assert key
        watch.waits()


def test_a_loop_that_stands_still_is_described_by_call_and_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = Reader(fifo)
    watch = reader.start()
    heard: list[Standstill] = []
    speaker = SpeakerThread(watch, 0.05, lambda _now, standstill: heard.append(standstill))
    speaker.start()
    wait_until(lambda: heard and heard[-1].seconds > 0.2, "it is heard of")
    assert heard[-1].doing.startswith(f"read_text of {fifo} (test_loop_watch.py:"), heard[-1].doing
    reader.answer()
    assert watch.standstill(time.monotonic(), 0.0) is None
    speaker.end()
    assert not any("AAAAC3" in one.doing for one in heard)


def test_a_loop_that_works_for_a_moment_is_not_spoken_for() -> None:
    watch = LoopWatch()
    now = time.monotonic()
    assert watch.standstill(now, 1.0) is None
    watch.works(now)
    assert watch.standstill(now + 0.9, 1.0) is None
    found = watch.standstill(now + 1.5, 1.0)
    assert found is not None
    assert found.seconds == 1.5


def test_p5_a_process_that_does_not_run_finds_the_gap_whichever_thread_is_first() -> None:
    speaker = SpeakerThread(LoopWatch(), 100.0, lambda *_: None)
    assert speaker.take_gap(5.0) == 0.0, "its thread has not begun"
    speaker.start()  # its own first look is after 100 s
    assert speaker.take_gap(10.0) == 0.0
    assert speaker.take_gap(13.0) == 0.0, "a busy machine"
    assert not speaker.has_gap(115.0), "its thread may be late"
    assert speaker.has_gap(1113.0)
    assert speaker.take_gap(1113.0) == 1000.0
    assert not speaker.has_gap(1114.0)
    assert speaker.take_gap(1114.0) == 0.0
    speaker._note_look(2214.0)  # its own look
    assert speaker.has_gap(2214.1)
    assert speaker.take_gap(2214.1) == 1000.0
    speaker.end()


def test_p5_a_suspension_before_the_first_look_is_found() -> None:
    speaker = SpeakerThread(LoopWatch(), 100.0, lambda *_: None)
    assert not speaker.has_gap(time.monotonic() + 1000), "its thread has not begun"
    began = time.monotonic()
    speaker.start()
    assert speaker.has_gap(began + 110)
    assert speaker.take_gap(began + 110) == pytest.approx(10, abs=5)
    speaker.end()


def test_a_loop_that_stands_still_is_no_gap(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = Reader(fifo)
    watch = reader.start()
    speaker = SpeakerThread(watch, 0.05, lambda *_: None)
    speaker.start()
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 0.5, "it stands still")
    assert speaker.take_gap(time.monotonic()) == 0.0
    reader.answer()
    speaker.end()


def test_a_thread_gets_no_signals_and_what_it_starts_does() -> None:
    found: list[str] = []

    def work() -> None:
        found.append(blocked_signals(Path("/proc/thread-self/status").read_text()))
        with signals_for_children():
            shown = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True)
        found.append(blocked_signals(shown.stdout))

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    thread = QuietThread(work, "works")
    thread.start()
    thread.join(30)
    quiet, child = (int(one, 16) for one in found)
    assert all(quiet >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGRTMIN + 2))
    assert child == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def blocked_signals(status: str) -> str:
    return next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
