"""What the reports of a resumed run take over from earlier controllers: times, places, windows, nodes that are gone."""

from pathlib import Path

import msgspec
from msgspec.structs import replace

from protocol.ids import AttemptId, RankId
from protocol.messages.monitor import Mark, RankWindow
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.journal.entry import Entry
from sflow_ctl.runtime.monitor.earlier import KeptWindow, earlier_run, keep_window
from sflow_ctl.runtime.monitor.files import raw_path
from sflow_ctl.runtime.record import layout
from tests.unit.core.plans import a_plan, a_task
from tests.unit.core.plans import rank as rank_id

PLAN = a_plan(a_task("a"), a_task("b"), nodes=2)


def named(*names: str) -> Plan:
    nodes = tuple(replace(PLAN.nodes[0], index=index, name=name) for index, name in enumerate(names))
    return replace(PLAN, nodes=nodes)


def line(at_ms: int, incarnation: int, task: str, new: TaskState, node: int | None = 0) -> bytes:
    change = Transition(
        task=task, attempt=1, old=TaskState.QUEUED, new=new, reason=Reason("x"), node=node, gpus=(2,)
    )
    entry = Entry(
        seq=1,
        incarnation=incarnation,
        wall_ns=at_ms * 1_000_000,
        at=0.0,
        kind="transition",
        transition=change,
    )
    return msgspec.json.encode(entry) + b"\n"


def recorded(tmp_path: Path, *lines: bytes) -> Path:
    (tmp_path / layout.OURS).mkdir()
    (tmp_path / layout.JOURNAL).write_bytes(b"".join(lines))
    return tmp_path


def test_times_and_places_are_those_of_the_journal(tmp_path: Path) -> None:
    directory = recorded(
        tmp_path,
        line(1000, 1, "a", TaskState.STARTING),
        line(2000, 1, "a", TaskState.COMPLETED),
        line(2500, 1, "b", TaskState.STARTING),
        b'{"torn',
    )
    earlier = earlier_run(directory, PLAN, lambda _: PLAN, 9000)
    assert earlier.history.begin_ms == 1000
    a, b = (earlier.history.tasks[name] for name in "ab")
    assert (a.begin_ms, a.end_ms, a.nodes, a.gpus) == (1000, 2000, {0}, {2})
    assert (b.begin_ms, b.end_ms) == (2500, 2500), "it ended with its controller"
    assert earlier.plan == PLAN


def test_a_node_that_the_run_has_no_more_keeps_its_files(tmp_path: Path) -> None:
    before, after = named("n1", "n2"), named("n2", "n3")
    directory = recorded(
        tmp_path,
        line(1000, 1, "a", TaskState.STARTING, node=1),
        line(2000, 2, "b", TaskState.STARTING, node=1),
    )
    earlier = earlier_run(directory, after, lambda number: before if number == 1 else after, 9000)
    assert [(node.index, node.name) for node in earlier.plan.nodes] == [(0, "n2"), (1, "n3"), (1, "n2")]
    assert earlier.history.tasks["a"].nodes == {2}
    assert earlier.history.tasks["b"].nodes == {1}
    assert raw_path(directory, earlier.plan, "cpu", 2).name == "cpu_monitor_node_1_n2.log"


def test_windows_are_taken_over(tmp_path: Path) -> None:
    directory = recorded(tmp_path)
    found = RankWindow(rank=rank_id("a"), log="", start=Mark(at_ms=1, offset=0, line="l"), end=None)
    keep_window(directory, KeptWindow(0, PLAN.nodes[0].name, found))
    keep_window(directory, KeptWindow(7, "gone", found))
    with (directory / layout.WINDOWS).open("ab") as file:
        file.write(b"torn")
    earlier = earlier_run(directory, PLAN, lambda _: None, 9000)
    assert earlier.windows == [(0, found), (2, found)]
    assert found.rank == RankId(AttemptId("a", 1), 0)


def test_a_run_without_a_journal_begins_now(tmp_path: Path) -> None:
    earlier = earlier_run(tmp_path, PLAN, lambda _: None, 9000)
    assert (earlier.history.begin_ms, earlier.history.tasks, earlier.windows) == (9000, {}, [])
