"""Records of a snapshot that are decoded when they are asked for look like a dict of records."""

import msgspec
import pytest

from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.report.run_view import RunView, TaskRecord
from sflow_ctl.report.timeline import Timeline
from sflow_ctl.runtime.journal.lazy_records import LazyRecords
from tests.unit.core.plans import a_plan, a_task

RECORDS = [
    TaskRecord("a", TaskState.COMPLETED, attempts=1, reason=Reason("exit", "exit status 0")),
    TaskRecord("b", TaskState.RUNNING, attempts=2),
    TaskRecord("c"),
]


@pytest.fixture
def records() -> LazyRecords:
    return LazyRecords("abc", [msgspec.Raw(msgspec.json.encode(record)) for record in RECORDS])


def test_they_are_the_records(records: LazyRecords) -> None:
    assert records["b"] == RECORDS[1]
    assert records["b"] is records["b"], "what is changed stays changed"
    assert list(records.values()) == RECORDS
    assert dict(records) == dict(zip("abc", RECORDS, strict=True)) == dict(records.items())
    assert ([*records], len(records), "a" in records, "d" in records) == (["a", "b", "c"], 3, True, False)
    assert (records.get("d"), records.get("c")) == (None, RECORDS[2])
    assert records.setdefault("c", TaskRecord("x")) == RECORDS[2]
    assert records.setdefault("d", TaskRecord("d")) == TaskRecord("d") == records["d"]
    with pytest.raises(KeyError):
        records["e"]
    with pytest.raises(ValueError, match="shorter"):
        LazyRecords("ab", [msgspec.Raw(b"{}")])


def test_another_snapshot_has_the_others_as_they_are(records: LazyRecords) -> None:
    records["a"].attempts = 7
    stored = list(records.as_stored())
    assert [isinstance(one, msgspec.Raw) for one in stored] == [False, True, True]
    again = msgspec.json.decode(msgspec.json.encode(stored), type=list[TaskRecord])
    assert [one.attempts for one in again] == [7, 2, 0]


def test_the_state_in_the_snapshot_stays_known(records: LazyRecords) -> None:
    records["b"].state = TaskState.FAILED
    assert [records.state_then(name) for name in "abcd"] == [
        TaskState.COMPLETED, TaskState.RUNNING, TaskState.WAITING, None,
    ]  # fmt: skip


def change(task: str, old: TaskState, new: TaskState) -> Transition:
    return Transition(task=task, attempt=1, old=old, new=new, reason=Reason("exit", "x"))


def test_a_timeline_continues_with_its_counts(records: LazyRecords) -> None:
    """The state before a change is that of the snapshot, though the view has the change already."""
    whole = Timeline({record.name: record.state for record in RECORDS})
    begun = Timeline.continued(whole.saved(), records.state_then)
    view = RunView(a_plan(*map(a_task, "abc")), records)
    for one in (
        change("b", TaskState.RUNNING, TaskState.FAILED),
        change("c", TaskState.QUEUED, TaskState.STARTING),
        change("d", TaskState.QUEUED, TaskState.STARTING),
        change("c", TaskState.STARTING, TaskState.RUNNING),
    ):
        view.apply(one)
        whole.note(one, 5)
        begun.note(one, 5)
    assert begun.counts() == whole.counts()
    assert (begun.saved(), begun.failed) == (whole.saved(), {"b": None})
    assert (begun.continues, whole.continues) == (True, False)
