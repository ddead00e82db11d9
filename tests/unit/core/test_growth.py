"""Plans that grow by what is new alone: what was there is neither looked at nor written again, and means the same."""

import pathlib
from typing import Any

import pytest

from protocol.text.masking import Mask
from sflow_ctl.core.actions.growing import proceed
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.again import Quorum
from sflow_ctl.plan.parts.cells import BlockStep
from sflow_ctl.plan.revisions.growing import items_in
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.plan_file import encode_plan
from sflow_ctl.runtime.record.plan_growth import (
    append_growth,
    encode_growth,
    growths,
    last_revision,
    read_growth,
    read_plan_file,
)
from sflow_ctl.runtime.revising.files import plan_in_force
from sflow_ctl.runtime.revising.in_force import PlansInForce
from tests.unit.core.growth_checks import check_growths
from tests.unit.core.plans import a_plan, a_task, exited
from tests.unit.core.test_blocks import complete as complete_n
from tests.unit.core.test_blocks import joined
from tests.unit.core.test_blocks import plan as looped
from tests.unit.core.test_late_items import after, complete, finish, grown, late, plan
from tests.unit.core.test_revisions import apply, done
from tests.unit.counting import instructions

S = TaskState


def test_each_iteration_and_list_is_what_the_whole_plan_would_have_become(tmp_path: pathlib.Path) -> None:
    whole = looped(tmp_path)
    run = joined(whole)
    for iteration in range(3):
        complete_n(run, f"use_{iteration}.a")
        complete_n(run, f"use_{iteration}.b", n=iteration)
    assert check_growths(whole, run.commands) == 4, "three iterations, and the end"
    listed = plan(late("each", "list"), after("last", "each"))
    run = grown(["a", "b"], late("each", "list"), after("last", "each"))
    assert check_growths(listed, run.commands) == 1


def test_a_consumer_that_needs_no_item_to_complete_starts_when_the_list_is_known() -> None:
    run = grown(["a"], late("each", "list", quorum=Quorum(needed=0, min_count=0)), after("last", "each"))
    assert run.state("last") is S.STARTING


def test_a_list_that_was_removed_and_comes_back_keeps_the_places_of_its_copies() -> None:
    busy = a_task("busy")
    run = grown(["a", "b"], late("each", "list"), busy)
    run.start("busy")
    complete(run, "each_0", "each_1")
    lister = run.run.plan.tasks[0]
    done(apply(run, a_plan(lister, busy, a_task("other"))))
    assert run.run.task_named("each_0").plan.removed_in == 3
    back = late("each", "list", "other")
    done(apply(run, plan(back, busy, a_task("other"))))
    complete(run, "other")
    names = [task.plan.name for task in run.run.tasks]
    assert names == [task.name for task in run.run.plan.tasks]
    assert len(set(names)) == len(names)
    assert items_in(run.run.plan, "each") == ["a", "b"]
    assert run.state("each_0") is S.STARTING


def cost_of_the_next(folder: pathlib.Path, iterations: int) -> int:
    """Return how many instructions it takes to add an iteration to a loop that has so many."""
    loop = "      loop: {max_iterations: 1000, until: '${{ false }}', carry: {n: '${{ last.outputs.n }}'}}\n"
    run = joined(looped(folder, loop=loop))
    for iteration in range(iterations):
        complete_n(run, f"use_{iteration}.a")
        complete_n(run, f"use_{iteration}.b", n=iteration)
    task = run.run.task_named("use")
    step = BlockStep(iteration=iterations + 1, inputs={"n": 1})
    steps = instructions(lambda: proceed(run.run, Effects(), task, step, 0.0))
    assert len(run.run.tasks) == 2 + 2 * (iterations + 2)
    return steps


def test_an_iteration_costs_the_same_however_many_there_were(tmp_path: pathlib.Path) -> None:
    few, many = cost_of_the_next(tmp_path, 4), cost_of_the_next(tmp_path, 60)
    assert many < 1.1 * few


@pytest.fixture
def written(tmp_path: pathlib.Path) -> tuple[pathlib.Path, list[Plan]]:
    """A directory whose plan has grown twice, and the plans."""
    (tmp_path / layout.OURS).mkdir()
    plans = [plan(late("each", "list"), late("more", "list"))]
    (tmp_path / layout.PLAN).write_bytes(b"".join(encode_plan(plans[0])))
    run = grown(["a"], late("each", "list"), late("more", "list"))
    for command in run.commands:
        if type(command).__name__ == "ReviseRun":
            index: Any = command.grown  # type: ignore[union-attr]
            new = command.plan  # type: ignore[union-attr]
            append_growth(tmp_path, encode_growth(plans[-1], new, index, "more", 1, None))
            plans.append(new)
    assert len(plans) == 3
    return tmp_path, plans


def test_what_was_added_comes_back_with_the_plan(written: tuple[pathlib.Path, list[Plan]]) -> None:
    directory, plans = written
    file = read_plan_file(directory)
    assert file.plan() == plans[-1]
    assert file.problem == ""
    chosen = {task.name: task for task in file.plan_with({"each", "more_0"}).tasks}
    assert chosen["each"] == plans[-1].tasks[1]
    assert chosen["more_0"] == plans[-1].tasks[-1]


def test_the_plan_of_any_revision_is_found(written: tuple[pathlib.Path, list[Plan]]) -> None:
    directory, plans = written
    for whole in (False, True):
        in_force = PlansInForce(directory, 1, plan_in_force(directory))
        assert in_force.first == plans[0]
        assert [in_force.of(number) for number in (1, 2, 3, 4)] == [*plans, None]
        (directory / layout.PLANS).mkdir(exist_ok=True)
        (directory / layout.revision_plan(2)).write_bytes(b"".join(encode_plan(plans[1])))
        if not whole:
            (directory / layout.first_plan(1)).write_bytes((directory / layout.PLAN).read_bytes())
            (directory / layout.PLAN).write_bytes(b"".join(encode_plan(plans[2])))


def test_what_a_newer_plan_has_already_is_not_added_again(written: tuple[pathlib.Path, list[Plan]]) -> None:
    directory, plans = written
    (directory / layout.PLAN).write_bytes(b"".join(encode_plan(plans[1])))
    assert read_plan_file(directory).plan() == plans[2]
    (directory / layout.PLAN).write_bytes(b"".join(encode_plan(plans[2])))
    assert read_plan_file(directory).plan() == plans[2]


def test_a_line_that_a_killed_controller_has_begun_is_left_out(
    written: tuple[pathlib.Path, list[Plan]],
) -> None:
    directory, plans = written
    content = read_growth(directory)
    (directory / layout.PLAN_GROWTH).write_bytes(content[:-30])
    assert read_plan_file(directory).plan() == plans[1]
    append_growth(directory, content.splitlines(keepends=True)[1])
    assert read_plan_file(directory).plan() == plans[2], "the next controller writes it whole"


def test_a_line_that_is_lost_is_said_and_nothing_after_it_counts(
    written: tuple[pathlib.Path, list[Plan]],
) -> None:
    directory, plans = written
    lines = read_growth(directory).splitlines(keepends=True)
    (directory / layout.PLAN_GROWTH).write_bytes(b"#" + lines[0] + lines[1])
    file = read_plan_file(directory)
    assert file.plan() == plans[0]
    assert file.problem == f"{layout.PLAN_GROWTH} is damaged: what revision 2 has added is not known"
    assert last_revision(read_growth(directory)) == 3


def test_values_of_secrets_are_masked_in_what_is_added() -> None:
    old = plan(late("each", "list"))
    run = grown(["hush"], late("each", "list"))
    line = encode_growth(old, run.run.plan, 1, "hush", 1, Mask([("KEY", "hush")]).data)
    assert b"hush" not in line
    assert len(list(growths(line, 1))) == 1


def test_a_group_whose_copies_are_there_is_waited_for_by_those_alone() -> None:
    run = grown(
        ["a", "b"], late("each", "list"), after("last", "each"), after("also", "each", until="finished")
    )
    run.start("each_0")
    list(run(exited("each_0", 1)))
    assert run.state("last") is S.SKIPPED
    run.start("each_1")
    list(run(exited("each_1")))
    finish(run, "each_1", {"n": 1})
    assert run.state("also") is S.STARTING
