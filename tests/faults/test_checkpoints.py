"""A controller that takes over begins with a checkpoint that it can use, and else reads the whole journal, and says why."""

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import LiveRank
from sflow_ctl.core.commands import RecordTransition
from sflow_ctl.core.events import SchedulerEvent
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import TaskState, Transition
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.journal import checkpoint, checkpointing
from sflow_ctl.runtime.journal.checkpointing import Checkpointing, ShellNotes
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.revising.in_force import PlansInForce
from sflow_ctl.runtime.supervision.history import TakenOver, taken_over
from sflow_ctl.runtime.supervision.supervisor import Death
from tests.unit.core.plans import a_plan, a_task, exited, hello, started

COUNT = 12
opened: list["Controlled"] = []
"""Those of the present test."""


@pytest.fixture(autouse=True)
def always_due(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(checkpointing, "EVERY_BYTES", 1)
    monkeypatch.setattr(checkpointing, "REST_FACTOR", 0)
    yield
    while opened:
        opened.pop().close()


def a_run() -> Plan:
    return a_plan(*(a_task(f"t{number}") for number in range(COUNT)), a_task("last", "t0"))


class Controlled:
    """A scheduler with its journal and checkpoints, as a controller has them."""

    def __init__(self, path: Path, left: TakenOver | None = None) -> None:
        """`left` is what the one before has left."""
        (path / layout.OURS).mkdir(exist_ok=True)
        self.path = path
        self.scheduler, notes, size, first_seq = Scheduler(a_run()), ShellNotes(), 0, 1
        if left is not None:
            self.scheduler, notes, size, first_seq = left.scheduler, left.known, left.checkpoint_size, 999
        self.journal = Journal(path / layout.JOURNAL, 1 if left is None else 2, first_seq)
        parts = (self.journal, self.scheduler, 1, notes)
        self.checkpoints = Checkpointing(path, *parts, begun_with=size)
        opened.append(self)

    def close(self) -> None:
        self.journal.close()
        self.checkpoints.close()

    def take(self, event: SchedulerEvent, *, writes: bool = True) -> None:
        """Handle an event, and write what a pass of the loop writes."""
        self.journal.event(event, 0.0)
        self.checkpoints.notes.note(event)
        for command in self.scheduler.handle(event, 0.0):
            if isinstance(command, RecordTransition):
                self.journal.transition(command.transition, 0.0)
        self.journal.flush(0.0)
        if writes:
            self.checkpoints.write_if_due(0.0)

    def begin(self) -> None:
        """Let all tasks run, and half of them end."""
        self.take(hello(0))
        for number in range(COUNT):
            self.take(started(f"t{number}"))
        for number in range(COUNT // 2):
            self.take(exited(f"t{number}"), writes=number < COUNT // 2 - 2)

    def replaced(self, lineage: int = 1, plan: Plan | None = None) -> TakenOver:
        """Return what the next controller has."""
        death = Death(9, time.time_ns(), time.monotonic(), (), ())
        plans = PlansInForce(self.path, lineage, plan or a_run())
        found = taken_over(self.path, lineage, Scheduler, death, plans)
        if plan is None and lineage == 1:
            before, after = self.scheduler.run.tasks, found.scheduler.run.tasks
            assert [task.state for task in after] == [task.state for task in before]
            assert [task.attempt.pid for task in after] == [task.attempt.pid for task in before]
            assert (found.rebuilt.lost, found.live) == ([], sum(task.is_live for task in before))
            assert [event.hello.node for event in found.known.joined.values()] == [0]
        return found


def test_a_successor_replays_what_follows_the_last_checkpoint(tmp_path: Path) -> None:
    run = Controlled(tmp_path)
    run.begin()
    found = run.replaced()
    assert found.began_with.startswith("the scheduler continues from its checkpoint at line ")
    assert found.checkpoint_size == (tmp_path / layout.CHECKPOINT).stat().st_size
    ended = found.scheduler.handle(exited("t7"), 5.0)
    assert ended == run.scheduler.handle(exited("t7"), 5.0)


def test_a_successor_continues_the_checkpoint(tmp_path: Path) -> None:
    run = Controlled(tmp_path)
    run.begin()
    found = run.replaced()
    after = Controlled(tmp_path, found)
    names = [*(f"t{number}" for number in range(6, COUNT)), "last"]
    live = tuple(LiveRank(RankId(AttemptId(name, 1), 0), 1, 0) for name in names)
    after.take(hello(0, "again", live=live))
    after.take(exited("t6"))
    lines = (tmp_path / layout.CHECKPOINT).read_bytes().splitlines()
    assert len(lines) > 2
    assert after.replaced().began_with.startswith("the scheduler continues")
    assert after.scheduler.run.task_named("t6").state is TaskState.COMPLETED


def without(path: Path) -> None:
    path.unlink()


def torn_in_its_only_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().split(b"\n")[0][:-5])


def with_a_wrong_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (without, "there is none yet"),
        (torn_in_its_only_line, "is damaged"),
        (with_a_wrong_byte, "is damaged"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_costs_time_only(
    tmp_path: Path, damage: Callable[[Path], None], why: str
) -> None:
    run = Controlled(tmp_path)
    run.begin()
    damage(tmp_path / layout.CHECKPOINT)
    found = run.replaced()
    assert "the scheduler was made from the whole journal" in found.began_with
    assert why in found.began_with
    assert found.checkpoint_size == 0


def test_what_was_written_before_a_torn_line_is_used(tmp_path: Path) -> None:
    run = Controlled(tmp_path)
    run.begin()
    path = tmp_path / layout.CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    found = run.replaced()
    assert found.began_with.startswith("the scheduler continues")
    assert found.checkpoint_size == whole[:-1].rindex(b"\n") + 1


def test_a_checkpoint_that_is_ahead_of_the_journal_is_not_used(tmp_path: Path) -> None:
    """The machine crashed: neither is synced, and the journal has lost more."""
    run = Controlled(tmp_path)
    run.begin()
    journal = tmp_path / layout.JOURNAL
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-8]))
    death = Death(9, time.time_ns(), time.monotonic(), (), ())
    found = taken_over(tmp_path, 1, Scheduler, death, PlansInForce(tmp_path, 1, a_run()))
    assert "does not fit the journal" in found.began_with


def test_checkpoints_of_other_controllers_plans_and_versions_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Controlled(tmp_path)
    run.begin()
    assert "is of incarnation 1, not of 2" in run.replaced(lineage=2).began_with
    other = a_plan(a_task("t0"), a_task("other"))
    assert "is of another plan" in run.replaced(plan=other).began_with
    monkeypatch.setattr(checkpoint, "VERSION", "9.9")
    assert "is of sflow-ctl " in run.replaced().began_with


def test_a_disk_that_refuses_costs_the_next_checkpoint_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Path] = []

    def refuse(path: Path) -> None:
        refused.append(path)
        monkeypatch.undo()
        monkeypatch.setattr(checkpointing, "EVERY_BYTES", 1)
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(checkpoint, "open_to_append", refuse)
    run = Controlled(tmp_path)
    run.begin()
    assert refused == [tmp_path / layout.CHECKPOINT]
    assert run.replaced().began_with.startswith("the scheduler continues")


def test_a_file_that_has_grown_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "GROWN_FROM", 0)
    monkeypatch.setattr(checkpoint, "GROWN", 1)
    run = Controlled(tmp_path)
    run.begin()
    assert len((tmp_path / layout.CHECKPOINT).read_bytes().splitlines()) <= 2
    assert run.replaced().began_with.startswith("the scheduler continues")


def test_changes_that_were_not_recorded_are_found_after_a_checkpoint(tmp_path: Path) -> None:
    run = Controlled(tmp_path)
    run.begin()
    event = exited("t8")
    run.journal.event(event, 0.0)
    run.journal.flush(0.0)
    lost = run.scheduler.handle(event, 0.0)
    death = Death(9, time.time_ns(), time.monotonic(), (), ())
    found = taken_over(tmp_path, 1, Scheduler, death, PlansInForce(tmp_path, 1, a_run()))
    assert [one for one in lost if hasattr(one, "transition")] == found.rebuilt.lost
    assert isinstance(found.rebuilt.lost[0].transition, Transition)  # type: ignore[union-attr]
