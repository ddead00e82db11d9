"""Signals that stop a run whose controller waits for a file system: the run ends nevertheless, and says what it waits for.

The file system is a real one, of a daemon that is stopped: `tests/stalling_fs.py`. A killed process that has files open
there stays in the kernel until the daemon runs again, as on a network file system whose server is gone.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stalling_fs import StallingFs, can_mount
from tests.support import Run, command, controller_of, is_alive, wait_until

LIMITS = ("--lost-after", "4", "--orphan-grace", "3")
pytestmark = pytest.mark.skipif(not can_mount(), reason="needs root and /dev/fuse")


@pytest.fixture
def stalling(tmp_path: Path) -> Iterator[StallingFs]:
    """A file system that is unmounted when the test ends."""
    made = StallingFs(tmp_path / "sflow_output", tmp_path / "backing")
    yield made
    made.close()


def begin(directory: Path, name: str) -> Run:
    """A run with a task that works for ever, and one whose end the controller has to write down."""
    beats = f"until [ -e {directory}/enough ]; do touch {directory}/{name}.beat; sleep 0.1; done"
    text = f"""
version: "0.1"
workflow:
  name: w
  tasks:
    - {{name: works, script: ["{beats}"]}}
    - {{name: ends, script: ["until [ -e {directory}/go ]; do sleep 0.1; done"]}}
"""
    run = Run.start(text, directory, *LIMITS, run_id=name)
    run.wait_for("works", "running")
    run.wait_for("ends", "running")
    return run


def begin_early(directory: Path) -> "subprocess.Popen[str]":
    """A run that cannot even make its directory."""
    (directory / "early.yaml").write_text(
        'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n    - {name: t, script: [echo t]}\n'
    )
    return subprocess.Popen(
        command("run", directory / "early.yaml", "--run-id", "early"),
        cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def test_r15_signals_end_runs_whose_directory_does_not_answer(stalling: StallingFs, tmp_path: Path) -> None:
    """One that gets one signal, one that gets two, and one that has not begun, at the same time."""
    once, twice = begin(tmp_path, "once"), begin(tmp_path, "twice")
    controllers = [controller_of(run.process.pid) for run in (once, twice)]
    stalling.stall()
    early = begin_early(tmp_path)
    (tmp_path / "go").touch()
    blocked = [*controllers, controller_of(early.pid)]
    wait_until(lambda: all(is_blocked(pid) for pid in blocked), "the controllers wait for the file system")
    began = time.monotonic()
    once.process.send_signal(signal.SIGTERM)
    twice.process.send_signal(signal.SIGINT)
    early.send_signal(signal.SIGINT)
    pause_s(2.0)
    twice.process.send_signal(signal.SIGINT)
    early.send_signal(signal.SIGINT)
    printed = {}
    for process, limit_s in ((twice.process, 14), (early, 20), (once.process, 35)):
        left_s = began + limit_s - time.monotonic()
        printed[process.pid] = process.communicate(timeout=max(left_s, 0.1))[0]
    assert [one.returncode for one in (twice.process, early, once.process)] == [130, 130, 143], printed
    for run, name in ((once, "SIGTERM"), (twice, "SIGINT")):
        output = printed[run.process.pid]
        assert f"{name} received, but the run directory has not answered for " in output
        assert f"The run is ended by {name}, its tasks are stopped." in output
        assert "Not written: its record since " in output
        assert f"`sflow-ctl run --resume {run.directory}` continues it" in output
        assert f" of {run.directory}/" in output
    for run, pid in zip((once, twice), controllers, strict=True):
        output = printed[run.process.pid]
        said = f"process {pid}, the controller, cannot be killed before what it waits for answers"
        assert said in output or not is_alive(pid), output
    assert "SIGINT has not reached the controller for " in printed[early.pid]
    wait_until(
        lambda: not beats(tmp_path, "once") and not beats(tmp_path, "twice"), "the tasks are stopped", 20
    )
    stalling.resume()
    wait_until(lambda: not any(is_alive(pid) for pid in controllers), "the controllers are gone", 20)
    (tmp_path / "enough").touch()
    resumed = subprocess.run(
        command("run", "--resume", once.directory, *LIMITS),
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr


def is_blocked(pid: int) -> bool:
    """Whether the kernel has the process wait for the daemon."""
    return Path(f"/proc/{pid}/wchan").read_text() == "request_wait_answer"


def pause_s(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, "the time is over", seconds + 30)


def beats(directory: Path, name: str) -> bool:
    """Whether the task still works."""
    beat = directory / f"{name}.beat"
    before = beat.stat().st_mtime_ns
    pause_s(0.5)
    return beat.stat().st_mtime_ns != before
