"""Viewers of a large run begin with a snapshot of its state; one that does not fit the journal is not used."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.report.run_view import TaskRecord
from sflow_ctl.report.timeline import Timeline
from sflow_ctl.runtime.journal import snapshot, writer
from sflow_ctl.runtime.journal.lazy_records import LazyRecords
from sflow_ctl.runtime.journal.snapshot import REST_FACTOR, SnapshotWriter, read_snapshot
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.reader import RunReader
from tests.support import sflow_ctl

TEXT = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ["true"]}
    - {name: b, depends_on: [a], script: ["false"]}
    - {name: gang, depends_on: [b], script: ["true"]}
"""


class Live:
    """The directory of a run that has failed, written on as by its controller, without a summary."""

    def __init__(self, path: Path) -> None:
        (path / "w.yaml").write_text(TEXT)
        assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=path).returncode == 1
        self.place, self.path = path, path / "sflow_output" / "r"
        (self.path / layout.SUMMARY).unlink()
        reader = RunReader(self.path)
        reader.refresh()
        self.state = reader.state
        self.journal = Journal(
            self.path / layout.JOURNAL, 1, reader.journal.last_seq + 1, reader.journal.segment
        )
        self.journal.flush(1.0)
        self.snapshots = SnapshotWriter(self.path, self.journal, self.state, Timeline({}))

    def change(self, task: str, new: TaskState) -> None:
        change = Transition(task=task, attempt=2, old=TaskState.QUEUED, new=new, reason=Reason("x"), node=0)
        wall_ns = self.journal.transition(change, 1.0)
        self.journal.flush(1.0)
        self.state.apply(change, wall_ns)

    def erase(self, count: int) -> None:
        """Overwrite the first lines of the journal: only a snapshot has them."""
        lines = (self.path / layout.JOURNAL).read_bytes().splitlines(keepends=True)
        lines[1:count] = [b" " * (len(line) - 1) + b"\n" for line in lines[1:count]]
        (self.path / layout.JOURNAL).write_bytes(b"".join(lines))

    def shown(self) -> dict[str, str]:
        done = sflow_ctl("status", "r", "--json", cwd=self.place)
        assert done.returncode == 0, done.stderr
        tasks: list[dict[str, Any]] = json.loads(done.stdout)["tasks"]
        return {task["name"]: task["state"] for task in tasks}


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(snapshot, "EVERY_BYTES", 1)
    made = Live(tmp_path)
    yield made
    made.journal.close()


def records(live: Live) -> list[TaskRecord]:
    return list(live.state.tasks.values())


def test_viewers_begin_with_a_snapshot_and_read_what_follows(live: Live) -> None:
    before = live.shown()
    assert before == {"a": "completed", "b": "failed", "gang": "cancelled"}
    count = len((live.path / layout.JOURNAL).read_bytes().splitlines())
    live.snapshots.write_if_due(1.0)
    assert (found := read_snapshot(live.path, 1)) is not None
    assert list((found.records() or {}).values()) == records(live)
    live.erase(count)
    assert live.shown() == before
    live.change("b", TaskState.COMPLETED)
    live.change("gang", TaskState.COMPLETED)
    assert live.shown() == {"a": "completed", "b": "completed", "gang": "completed"}
    table = sflow_ctl("status", "r", cwd=live.place).stdout
    assert "gang" in table
    reader = RunReader(live.path)
    reader.begin_from_snapshot()
    assert [one.transition.task for one in reader.refresh()] == ["b", "gang"]
    for record in records(live):
        record.incarnation = 1  # of the journal's lines, which `live` does not read
    assert list(reader.state.tasks.values()) == records(live)


def test_a_snapshot_is_good_after_its_segment_was_put_away(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.snapshots.write_if_due(1.0)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 1)
    live.journal._next_segment_from = 1
    live.change("b", TaskState.COMPLETED)
    live.change("gang", TaskState.COMPLETED)
    assert read_snapshot(live.path, 1) is not None
    assert live.shown() == {"a": "completed", "b": "completed", "gang": "completed"}


def test_a_snapshot_that_does_not_fit_is_not_used(live: Live) -> None:
    live.snapshots.write_if_due(1.0)
    journal, state = live.path / layout.JOURNAL, live.path / layout.STATE
    whole, content = journal.read_bytes(), state.read_bytes()
    assert read_snapshot(live.path, 2) is None, "of another controller"
    assert read_snapshot(live.path, 3, 1) is not None, (
        "of one that this has taken over from, and another between them"
    )
    assert read_snapshot(live.path, 3, 2) is None, "of one before a resume"
    journal.write_bytes(whole[:-30])
    assert read_snapshot(live.path, 1) is None, "it has more than the journal"
    journal.write_bytes(whole + whole.splitlines(keepends=True)[1])
    assert read_snapshot(live.path, 1) is None, "another line follows"
    journal.write_bytes(whole)
    for bad in (b"", content[:-100], content.replace(b'"format":3', b'"format":99'), b"[" * 100_000):
        state.write_bytes(bad)
        assert read_snapshot(live.path, 1) is None
    assert live.shown() == {"a": "completed", "b": "failed", "gang": "cancelled"}


def test_records_that_cannot_be_read_cost_only_time(live: Live) -> None:
    live.snapshots.write_if_due(1.0)
    state = live.path / layout.STATE
    content = state.read_bytes()
    found = read_snapshot(live.path, 1)
    assert found is not None
    assert isinstance(found.records(list(live.state.tasks)), LazyRecords)
    assert not isinstance(found.records(["a", "b"]), LazyRecords), "of another plan"
    other = msgspec.structs.replace(found, version="0.0.1")
    assert not isinstance(other.records(list(live.state.tasks)), LazyRecords), "of another version"
    state.write_bytes(content.replace(b'"state":"failed"', b'"state":"unheard"'))
    assert (bad := read_snapshot(live.path, 1)) is not None
    assert bad.records() is None
    assert live.shown() == {"a": "completed", "b": "failed", "gang": "cancelled"}


def test_snapshots_are_seldom_and_take_little_of_the_time(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    clock = [0.0]

    def write(path: Path, content: Iterator[bytes]) -> None:
        msgspec.json.decode(b"".join(content))
        written.append(clock[0])
        clock[0] += 0.1

    monkeypatch.setattr(snapshot, "write_for_now", write)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    while clock[0] < 30:
        live.change("b", TaskState.RUNNING)
        live.snapshots.write_if_due(clock[0])
        clock[0] += 0.05
    assert len(written) == 6, f"one in {0.1 * REST_FACTOR} s"
    monkeypatch.setattr(snapshot, "EVERY_BYTES", 10**9)
    clock[0] += 100
    live.snapshots.write_if_due(clock[0])
    assert len(written) == 6, "nothing has been written since"
