"""A task whose exit waits for its outputs when the controller is killed: it has done its work, and does it once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import ExitCause, RankExited
from sflow_ctl.core.events import LogArrived, MessageReceived, SchedulerEvent
from sflow_ctl.core.states import TaskState
from sflow_ctl.report.run_view import TaskRecord
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.held_exits import HeldSuccess, held_successes
from tests.support import Run, nothing_left, sflow_ctl, wait_until
from tests.unit.core.plans import a_task

LINES = 500_000
WORKFLOW = f"""
version: "0.1"
workflow:
  name: w
  tasks:
    - name: work
      script: ["echo once >> work.count; yes 'a line without a value' | head -n {LINES}; echo 'rate = 5.5'"]
      outputs: [{{pattern: "rate = {{rate:f}}"}}]
    - name: use
      depends_on: [work]
      script: ["echo ${{{{ task.work.outputs.rate }}}} > used"]
"""


def test_r8_a_task_whose_outputs_were_not_read_is_not_run_again(
    tmp_path: Path,
) -> None:
    run = Run.start(WORKFLOW, tmp_path, "-q")
    try:
        journal = run.directory / ".sflow/events.jsonl"
        run.wait_for("work", "running")
        wait_until(lambda: b'"rank_exited"' in journal.read_bytes(), "the exit is in the journal")
        run.kill_both()
        run.process.wait()
        nothing_left(run)
        assert run.states()["work"] == "running", "its exit has counted: nothing to see"
        looked = sflow_ctl("run", "--resume", run.directory, "--dry-run", cwd=tmp_path)
        assert "kept: work" in looked.stdout + looked.stderr
        assert run.states()["work"] == "running"
        done = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "kept: work" in done.stderr
        assert (tmp_path / "work.count").read_text() == "once\n"
        assert (tmp_path / "used").read_text() == "5.5\n"
        assert run.states() == {"work": "completed", "use": "completed"}
        (task, _) = run.summary().tasks
        assert (task.state, task.exit_code) == ("completed", 0)
        again = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert (tmp_path / "work.count").read_text() == "once\n"
    finally:
        run.kill()


def held(
    directory: Path, events: Sequence[SchedulerEvent], ranks: int = 1, **record: Any
) -> HeldSuccess | None:
    (directory / ".sflow").mkdir()
    (directory / "t").mkdir()
    (directory / "t/t.log").write_text("12345")
    journal = Journal(directory / layout.JOURNAL, 1)
    for event in events:
        journal.event(event, 0.0)
    journal.close()
    task = a_task("t", ranks_per_node=(ranks,), service=record.pop("service", False))
    known = TaskRecord("t", **{"state": TaskState.RUNNING, "attempts": 1, **record})
    return held_successes(directory, {"t": task}, {"t": known}).get("t")


def an_exit(rank: int = 0, attempt: int = 1, code: int = 0, **facts: Any) -> MessageReceived:
    message = RankExited(rank=RankId(AttemptId("t", attempt), rank), exit_code=code, **facts)
    return MessageReceived(node=0, message=message)


def arrived(rank: int = 0) -> LogArrived:
    return LogArrived(rank=RankId(AttemptId("t", 1), rank))


@pytest.mark.parametrize(
    "case",
    [
        {"events": [an_exit(code=1)]},
        {"events": [an_exit(cause=ExitCause(word="success", text="x"))]},
        {"events": [an_exit(was_asked=True)]},
        {"events": [an_exit()], "attempts": 2},
        {"events": [an_exit()], "state": TaskState.STOPPING},
        {"events": [an_exit()], "service": True},
        {"events": [an_exit(0), an_exit(0)], "ranks": 2},
        {"events": []},
    ],
)
def test_r8_what_has_not_succeeded_in_its_last_attempt_runs_again(
    tmp_path: Path, case: dict[str, Any]
) -> None:
    assert held(tmp_path, **case) is None


@pytest.mark.parametrize(
    ("events", "ranks", "has_log"),
    [
        ([an_exit(log_bytes=5)], 1, True),
        ([an_exit(log_bytes=6)], 1, False),
        ([an_exit(log_bytes=6), arrived()], 1, True),
        ([an_exit(0, log_bytes=5), an_exit(1, log_bytes=5), arrived(0)], 2, False),
        ([an_exit(0, log_bytes=5), an_exit(1, log_bytes=5), arrived(0), arrived(1)], 2, True),
        ([an_exit(0, log_bytes=5), an_exit(1), arrived(0)], 2, True),
    ],
)
def test_r8_a_success_counts_later_only_with_its_whole_log(
    tmp_path: Path, events: list[SchedulerEvent], ranks: int, has_log: bool
) -> None:
    found = held(tmp_path, events, ranks)
    assert found is not None
    assert found.has_log is has_log
