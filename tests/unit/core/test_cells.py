"""Cells of sweeps in the scheduler: how many run at once, their GPUs, their services, and what a failure of one means."""

from typing import Any

from msgspec.structs import replace

from sflow_ctl.core.cells import MAX_OVERTAKEN
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.parts.again import Restart
from sflow_ctl.plan.parts.cells import Cell, PlannedSweep
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task

S = TaskState


def in_cell(index: int, task: PlannedTask) -> PlannedTask:
    return replace(task, cell=Cell(index=index, id=f"id{index}", label=f"c{index}"))


def swept(*tasks: PlannedTask, gpus: int | None = None, **limits: Any) -> Plan:
    cells = len({task.cell.index for task in tasks if task.cell is not None})
    sweep = PlannedSweep(cells=cells, total=cells, **limits)
    return replace(a_plan(*tasks, gpus=gpus), sweeps=(sweep,))


def chain(index: int, **options: Any) -> list[PlannedTask]:
    """A cell of two tasks, one after the other."""
    first, second = f"a{index}", f"b{index}"
    return [
        in_cell(index, a_task(first, on_failure="isolate", **options)),
        in_cell(index, a_task(second, first, on_failure="isolate", **options)),
    ]


def gpus(count: int) -> Placement:
    return Placement(nodes=(0,), is_flexible=True, gpus_per_node=count)


def test_so_many_cells_run_at_once_and_the_next_begins_when_all_of_one_has_ended() -> None:
    run = Driver.joined(swept(*chain(0), *chain(1), *chain(2), max_parallel=2))
    assert run.spawned() == ["a0#1", "a1#1"]
    run.start("a1")
    run.end("a1")
    assert run.spawned() == ["a0#1", "a1#1", "b1#1"]
    run.start("b1")
    run.end("b1")
    assert run.spawned()[3:] == ["a2#1"]


def test_a_failure_in_a_cell_ends_no_other_and_the_run_fails_at_its_end() -> None:
    run = Driver.joined(swept(*chain(0), *chain(1), max_parallel=1))
    run.start("a0")
    run.end("a0", 3)
    assert run.states("a0", "b0", "a1") == [S.FAILED, S.SKIPPED, S.STARTING]
    for name in ("a1", "b1"):
        run.start(name)
        run.end(name)
    assert run.run.outcome is Outcome.FAILED
    assert "a0" in run.cause()
    assert run.leave().outcome is Outcome.FAILED


def test_the_services_of_a_cell_end_with_it_and_free_their_gpus() -> None:
    def cell(index: int) -> list[PlannedTask]:
        server = a_task(f"s{index}", service=True, placement=gpus(4), on_failure="isolate")
        client = a_task(f"c{index}", f"s{index}", placement=gpus(4), on_failure="isolate")
        return [in_cell(index, server), in_cell(index, client)]

    run = Driver.joined(swept(*cell(0), *cell(1), gpus=8, max_parallel=1))
    run.serve("s0")
    run.start("c0")
    assert run.spawned() == ["s0#1", "c0#1"]
    run.end("c0")
    assert run.state("s0") is S.STOPPING
    assert run.stopped() == ["s0"]
    run.end("s0", signal=15)
    assert run.state("s0") is S.COMPLETED
    assert run.why("s0") == "cell_complete: stopped: all else of its cell is done"
    assert run.spawned()[2:] == ["s1#1"]


def test_a_service_that_restarts_always_does_not_do_so_when_its_cell_is_done() -> None:
    server = a_task("s", service=True, restart=Restart(policy="always"), on_failure="isolate")
    client = a_task("c", "s", on_failure="isolate")
    run = Driver.joined(swept(in_cell(0, server), in_cell(0, client), a_task("rest")))
    run.start("rest")
    run.serve("s")
    run.start("c")
    run.end("c")
    assert run.stopped() == ["s"]
    run.end("s", signal=15)
    assert run.state("s") is S.COMPLETED
    assert run.run.outcome is None


def test_a_service_that_no_task_of_its_cell_needs_any_more_never_starts() -> None:
    first = in_cell(0, a_task("first", on_failure="isolate"))
    server = in_cell(0, a_task("s", "first", service=True, on_failure="isolate"))
    client = in_cell(0, a_task("c", "s", on_failure="isolate"))
    waits = in_cell(0, a_task("late", service=True, after_end=("never",), on_failure="isolate"))
    run = Driver.joined(swept(first, server, client, waits, a_task("never")))
    run.start("first", "never")
    run.end("first", 1)
    assert run.states("s", "c", "late") == [S.SKIPPED] * 3
    assert run.why("late") == "cell_complete: all else of its cell has ended"


def test_tasks_of_a_sweep_have_no_more_gpus_than_its_budget() -> None:
    tasks = [
        in_cell(index, a_task(f"t{index}", placement=gpus(2), on_failure="isolate")) for index in range(4)
    ]
    run = Driver.joined(swept(*tasks, a_task("other", placement=gpus(2)), gpus=8, gpu_budget=4))
    assert run.spawned() == ["t0#1", "t1#1", "other#1"]
    run.start("t0", "t1", "other")
    run.end("t1")
    assert run.spawned()[3:] == ["t2#1"]


def test_a_large_cell_is_overtaken_by_small_ones_but_not_for_ever() -> None:
    small = [
        in_cell(index, a_task(f"s{index}", placement=gpus(1), on_failure="isolate")) for index in range(30)
    ]
    large = in_cell(30, a_task("large", placement=gpus(2), on_failure="isolate"))
    first, rest = small[0], small[1:]
    run = Driver.joined(swept(first, large, *rest, gpus=2))
    started = 0
    while run.state("large") is S.QUEUED:
        live = [
            name.removesuffix("#1")
            for name in run.spawned()
            if run.state(name.removesuffix("#1")) is S.STARTING
        ]
        name = live[0]
        started += 1
        run.start(name)
        run.end(name)
    assert MAX_OVERTAKEN <= started <= MAX_OVERTAKEN + 3
    assert run.state("large") is S.STARTING
    run.start("large")
    run.end("large")
    assert sum(run.state(f"s{index}") is S.STARTING for index in range(30)) == 2


def test_small_cells_are_not_held_back_when_no_gpus_will_come_free() -> None:
    server = a_task("server", service=True, placement=gpus(1))
    large = in_cell(0, a_task("large", placement=gpus(2), on_failure="isolate"))
    small = [in_cell(i, a_task(f"s{i}", placement=gpus(1), on_failure="isolate")) for i in range(1, 20)]
    run = Driver.joined(swept(server, large, *small, gpus=2))
    run.serve("server")
    for i in range(1, 20):
        assert run.state(f"s{i}") is S.STARTING, i
        run.start(f"s{i}")
        more = run.end(f"s{i}")
    assert any("large waits for 2 GPUs" in line for line in more)


def test_a_cell_that_starts_again_after_its_end_is_counted_again() -> None:
    run = Driver.joined(swept(*chain(0, retries=1), *chain(1), max_parallel=1))
    run.start("a0")
    run.end("a0", 1)
    assert run.state("a0") is S.WAITING
    assert run.spawned() == ["a0#1"]
    run.wake()
    assert run.spawned() == ["a0#1", "a0#2"]


def test_cells_continue_from_a_saved_state_as_they_were() -> None:
    from sflow_ctl.core.cells import Cells

    tasks = [
        *chain(0),
        *chain(1),
        *chain(2),
        in_cell(3, a_task("g", placement=gpus(2), on_failure="isolate")),
    ]
    plan = swept(*tasks, gpus=4, max_parallel=2, gpu_budget=4)
    run = Driver.joined(plan)
    run.start("a0")
    run.end("a0")
    before = run.run.cells
    again = Cells.of(plan, run.run.tasks)
    again.restore(before.saved(), run.run.tasks)
    assert again == before
    assert again.saved().held
