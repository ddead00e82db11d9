"""What a controller does while its record cannot be written: it holds back new tasks, says so, and gives up in the end."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from protocol.ids import AttemptId
from protocol.messages.orders import Spawn, Stop, before_spawns
from sflow_ctl.core.commands import FinishRun, SendToAgent
from sflow_ctl.core.events import RecordUnwritable, WakeUp
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import Outcome, Reason, TaskState, Transition
from sflow_ctl.runtime.journal.writer import SYNC_EVERY_S, Journal
from sflow_ctl.runtime.record.directory import RunDirectory
from sflow_ctl.runtime.record.record_keeper import GIVEN_UP_AFTER_S, NODES_EVERY_S, RecordKeeper
from sflow_ctl.runtime.run.node_book import NodeBook
from tests.support import Run, wait_until
from tests.unit.core.plans import a_plan, a_task, hello


class FullDisk(Journal):
    """A journal on a disk that can be full."""

    is_full = True

    def flush(self, now: float, *, syncs_at_once: bool = False) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().flush(now, syncs_at_once=syncs_at_once)


class Kept:
    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "r" / ".sflow").mkdir(parents=True)
        self.said: list[str] = []
        self.journal = FullDisk(tmp_path / "r" / ".sflow" / "events.jsonl", 1)
        self.keeper = RecordKeeper(RunDirectory(tmp_path, "r"), self.journal, self.said.append)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.journal.close()


def test_r8_a_record_that_cannot_be_written_is_said_once_and_so_is_its_end(kept: Kept) -> None:
    for now in (1.0, 2.0, 3.0):
        kept.keeper.flush(now)
        assert kept.keeper.is_failing
    assert len(kept.said) == 1
    assert "file system is full (" in kept.said[0]
    assert "nothing new is started" in kept.said[0]
    kept.journal.is_full = False
    kept.keeper.flush(4.0)
    assert not kept.keeper.is_failing
    assert kept.said[1] == "the run's record can be written again"
    assert kept.keeper.next_wakeup(4.0) is None


def test_r8_a_run_whose_record_stays_unwritable_is_given_up_once(kept: Kept) -> None:
    kept.keeper.flush(1.0)
    assert kept.keeper.give_up(GIVEN_UP_AFTER_S) is None
    event = kept.keeper.give_up(1.0 + GIVEN_UP_AFTER_S)
    assert event is not None
    assert event.reason.word == "disk_full"
    assert kept.keeper.give_up(9.0 + GIVEN_UP_AFTER_S) is None


def test_r8_a_run_that_is_given_up_ends_as_infrastructure_with_the_reason() -> None:
    scheduler = Scheduler(a_plan(a_task("a")))
    scheduler.handle(hello(), 0.0)
    assert not scheduler.is_stopping
    reason = Reason("disk_full", "cannot write x: the file system is full (/m)")
    commands = scheduler.handle(RecordUnwritable(reason=reason), 1.0)
    assert any(isinstance(one, SendToAgent) and isinstance(one.message, Stop) for one in commands)
    assert scheduler.is_stopping
    assert scheduler.run.outcome is Outcome.INFRASTRUCTURE
    assert scheduler.run.cause is not None
    assert scheduler.run.cause.reason == reason
    assert not any(isinstance(one, FinishRun) for one in scheduler.handle(WakeUp(), 1.1))


def test_r8_orders_to_start_are_held_and_what_comes_before_them_is_not() -> None:
    stop = Stop(attempt=AttemptId("a", 1), grace_s=1.0)
    spawn = Spawn(ranks=())
    assert before_spawns([stop, stop, spawn, stop]) == 2
    assert before_spawns([spawn]) == 0
    assert before_spawns([stop]) == 1


def completed(task: str) -> Transition:
    reason = Reason("exit_0")
    return Transition(task=task, attempt=1, old=TaskState.RUNNING, new=TaskState.COMPLETED, reason=reason)


def test_r8_ends_are_synced_together_and_count_as_durable_only_then(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[float] = []
    now = 1.0
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: synced.append(now))
    kept.journal.is_full = False
    kept.keeper.flush(now)
    assert synced == [1.0]  # the name of the file
    for now in (1.01, 1.02, 1.03):
        kept.journal.transition(completed("a"), now)
        kept.keeper.flush(now)
        assert not kept.keeper.is_durable
    assert kept.keeper.next_wakeup(now) == 1.0 + SYNC_EVERY_S
    now = 1.0 + SYNC_EVERY_S
    kept.keeper.flush(now)
    assert kept.keeper.is_durable
    assert kept.keeper.next_wakeup(now) is None
    kept.journal.transition(completed("b"), now)
    kept.keeper.flush(now, syncs_at_once=True)
    assert kept.keeper.is_durable
    assert synced == [1.0, 1.0 + SYNC_EVERY_S, 1.0 + SYNC_EVERY_S]


def test_r8_another_attempt_is_synced_before_its_order_leaves(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    kept.journal.is_full = False
    kept.keeper.flush(1.0)
    again = msgspec.structs.replace(completed("a"), new=TaskState.WAITING, reason=Reason("retry"))
    assert again.is_again
    kept.journal.transition(again, 1.01)
    kept.keeper.flush(1.01)
    assert len(synced) == 2


def test_r31_nodes_are_written_while_a_run_goes_on(tmp_path: Path, kept: Kept) -> None:
    book = NodeBook(["n"], is_spooled=False)
    book.joined(hello().hello)
    kept.keeper.write_nodes(book, 1.0)
    assert not (tmp_path / "r/.sflow/nodes.json").exists()
    kept.keeper.write_nodes(book, 1.0 + NODES_EVERY_S)
    assert [one["name"] for one in json.loads((tmp_path / "r/.sflow/nodes.json").read_bytes())] == ["n"]
    assert not book.has_news


def test_r31_nodes_are_there_while_a_real_run_goes_on(tmp_path: Path) -> None:
    run = Run.start(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: s, script: ["sleep 600"]}]}', tmp_path
    )
    try:
        wait_until((run.directory / ".sflow/nodes.json").exists, "nodes.json")
        nodes = json.loads((run.directory / ".sflow/nodes.json").read_bytes())
        assert [one["name"] for one in nodes] == ["localhost"]
    finally:
        run.kill()
