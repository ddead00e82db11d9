"""Ctrl-Z, `fg`, and Ctrl-C of a run in a real terminal with a shell's job control, and tasks that work meanwhile."""

import os
import pty
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.machine.procfs import read_status
from tests.support import ROOT, both_of, is_alive, wait_until

WORKFLOW = """
version: "0.1"
workflow:
  name: w
  tasks:
    - name: t
      timeout: 6
      script: ["until [ -e {go} ]; do touch {beat}; sleep 0.1; done; echo finished"]
    - {{name: long, script: ["until [ -e {later} ]; do sleep 0.1; done"], depends_on: [t]}}
"""


class Terminal:
    """An interactive bash in a pseudo-terminal."""

    def __init__(self, directory: Path) -> None:
        self.pid, self._side = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            os.environ.update(PS1="$ ", TERM="dumb", PYTHONPATH=str(ROOT))
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def waits_for(self, text: str, within_s: float = 60) -> None:
        """Wait until a text is shown; what was shown before it is forgotten."""
        deadline = time.monotonic() + within_s
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} is not shown: {self.shown}"
            if select.select([self._side], [], [], 0.1)[0]:
                self.shown += os.read(self._side, 65536).decode(errors="replace")
        self.shown = self.shown.partition(text)[2]

    def close(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self._side)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A shell that is killed when the test ends, and its jobs with it."""
    made = Terminal(tmp_path)
    yield made
    (tmp_path / "go").touch()
    (tmp_path / "later").touch()
    made.close()


def test_public_12_ctrl_z_and_fg_in_a_terminal_cost_nothing(terminal: Terminal, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("go", "beat", "later")}
    (tmp_path / "w.yaml").write_text(WORKFLOW.format(**files))
    limits = "--lost-after 4 --orphan-grace 3"
    terminal.type(f"{sys.executable} -m sflow_ctl run w.yaml --run-id r {limits}\n")
    wait_until(files["beat"].exists, "the task works")
    terminal.type("\x1a")
    terminal.waits_for("Stopped")
    terminal.type("jobs -p > pids\n")
    wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text(), "the job's pid")
    both = both_of(int((tmp_path / "pids").read_text()))
    assert all((status := read_status(pid)) is not None and status.state == "T" for pid in both)
    until = time.monotonic() + 7.0
    wait_until(lambda: time.monotonic() > until, "all limits are over")
    before = files["beat"].stat().st_mtime_ns
    wait_until(lambda: files["beat"].stat().st_mtime_ns > before, "the task works on", 5)
    terminal.type("fg\n")
    files["go"].touch()
    wait_until(lambda: "finished" in (tmp_path / "sflow_output/r/t/t.log").read_text(), "the task has ended")
    terminal.waits_for("long")
    assert "lost" not in terminal.shown
    terminal.type("\x03")
    terminal.waits_for("(exit status 130)")
    terminal.type("echo status=$?\n")
    terminal.waits_for("status=130")
    wait_until(lambda: not any(is_alive(pid) for pid in both), "nothing is left")
