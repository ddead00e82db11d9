"""The console of a whole run, on a terminal and in a file: what it waits for, how it stops, what it shows of each task."""

import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import PATIENCE_S, command, wait_until

WORKFLOW = """version: "0.1"
variables: {SFLOW_OWN: 1}
workflow:
  name: w
  tasks:
    - name: model
      script: "exec python3 -u -m http.server $SFLOW_PORT_HTTP --bind 127.0.0.1"
      ports: {http: 1, wrong: 1}
      probes: {readiness: {tcp_port: {port: "${{ port.wrong }}"}}}
    - name: stubborn
      console: false
      script: "trap '' TERM; echo muted; while :; do sleep 0.1; done"
      stop: {grace: 1s}
    - {name: noisy, console: errors, script: "echo fine; echo 'ValueError: shown'; sleep 600"}
    - {name: one, script: "echo done"}
    - {name: bench, script: "true", depends_on: model}
    - {name: clean, finally: true, script: "echo cleaning"}
"""


class Shown:
    """A run on a stream, and all that it has shown so far."""

    def __init__(self, directory: Path, run_id: str, *, is_terminal: bool) -> None:
        self.ours, theirs = pty.openpty() if is_terminal else os.pipe()
        self._data = b""
        self.process = subprocess.Popen(
            command("run", "w.yaml", "--run-id", run_id),
            cwd=directory,
            env={**os.environ, "TERM": "xterm", "LANG": "C.UTF-8", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                block = os.read(self.ours, 65536)
            except OSError:  # the other side of a pseudo-terminal is closed
                return
            if not block:
                return
            self._data += block

    @property
    def text(self) -> str:
        """What was written, one status line below the other."""
        return self._data.decode().replace("\r\x1b[K", "\n").replace("\r\n", "\n")

    def until(self, pattern: str) -> "re.Match[str]":
        def found() -> "re.Match[str] | None":
            match = re.search(pattern, self.text)
            assert match is not None or self.process.poll() is None, self.text
            return match

        return wait_until(found, pattern)

    def finish(self) -> int:
        status = self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        return status


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """What a terminal and a pipe are shown of a run that is interrupted while its service listens on another port."""
    directory = tmp_path_factory.mktemp("console")
    (directory / "w.yaml").write_text(WORKFLOW)
    runs = (Shown(directory, "t", is_terminal=True), Shown(directory, "p", is_terminal=False))
    try:
        for run in runs:
            run.until(
                r"── waiting for model \(00:0\d\): port \d+ is not listening; the task listens on \S+\n"
            )
            run.until("ValueError: shown")
        for run in runs:
            os.kill(run.process.pid, signal.SIGINT)
        assert [run.finish() for run in runs] == [130, 130]
        yield runs[0].text, runs[1].text
    finally:
        for run in runs:
            run.process.kill()
            run.process.wait()
            os.close(run.ours)


def test_ux_01_warnings_of_the_plan_have_their_code_and_place(both: tuple[str, str]) -> None:
    for text in both:
        assert re.search(r"warning\[reserved-name\]: .*SFLOW_OWN.*\n  where: .*w\.yaml:2:\d+", text)


def test_ux_02_a_stop_is_said_before_it_is_over(both: tuple[str, str]) -> None:
    for text in both:
        stop = re.search(
            r"── stopping \d tasks \(Ctrl-C again kills at once\): .*stubborn.*, SIGKILL in \d s\n", text
        )
        assert stop is not None, text
        assert text.index("── running finally: clean\n") >= stop.end()


def test_ux_02_cancelled_tasks_do_not_count_as_done(both: tuple[str, str]) -> None:
    on_terminal, _ = both
    assert "1/6 done" in on_terminal
    assert on_terminal.rindex("2/6 done") > on_terminal.index("running finally: clean")
    assert "3/6 done" not in on_terminal


def test_ux_03_a_terminal_says_what_runs_and_is_awaited_in_its_status_line(both: tuple[str, str]) -> None:
    on_terminal, piped = both
    assert re.search(r"\d/6 done · .* · waiting for model \(00:0\d\)", on_terminal)
    assert "done · " not in piped


def test_ux_15_output_is_muted_by_task_and_has_a_column_on_a_terminal(both: tuple[str, str]) -> None:
    on_terminal, piped = both
    assert "[noisy] ValueError: shown\n" in piped
    assert "[noisy] ValueError: shown\n" in on_terminal
    assert "[one] done\n" in piped
    assert "[one]   done\n" in on_terminal
    for text in both:
        assert "fine" not in text
        assert "muted" not in text
    assert "[clean] cleaning\n" in piped
    assert "[clean] cleaning\n" in on_terminal
    assert "[model] Serving" in on_terminal


def test_ux_09_the_end_of_an_interrupted_run_names_its_resume(both: tuple[str, str]) -> None:
    for text, run in zip(both, "tp", strict=True):
        assert f"sflow-ctl run --resume sflow_output/{run}\n" in text
