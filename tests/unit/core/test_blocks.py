"""Tasks that stand for blocks: the plan grows by the tasks of each use and iteration, and in a replay in the same way."""

from pathlib import Path
from typing import Any

import pytest

from sflow_ctl.core.events import OutputsCollected
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.core.takeover import Recorded
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.revisions.blocks import without_stale
from sflow_ctl.plan.revisions.growing import grown_like
from sflow_ctl.runtime.record.plan_file import decode_plan, encode_plan
from tests.unit.core.driver import Driver, replay
from tests.unit.core.plans import cleared, exited, goodbye, hello
from tests.unit.planner.planning import plan_of

S = TaskState
BLOCK = """\
  blocks:
    step:
      inputs: {n: int, text: {type: str, default: x}}
      outputs: {n: "${{ task.b.outputs.n }}", done: "${{ task.b.outputs.n >= 2 }}"}
      tasks:
        a: {script: ["a ${{ block.inputs.n }} ${{ block.inputs.text }}"]}
        b: {depends_on: a, script: ["b ${{ block.iteration }}"], outputs: [{pattern: "n {n:d}"}]}
"""
LOOP = "      loop: {max_iterations: 3, until: '${{ last.outputs.done }}', carry: {n: '${{ last.outputs.n + 1 }}'}}\n"
AFTER = "    after: {depends_on: use, script: ['got ${{ task.use.outputs.n }}']}\n"


def plan(folder: Path, loop: str = LOOP, given: str = "{n: 0}", more: str = AFTER) -> Plan:
    use = f"    use:\n      block: step\n      with: {given}\n{loop}"
    return plan_of(folder, f"workflow:\n  name: w\n{BLOCK}  tasks:\n{use}{more}")


def complete(run: Driver, name: str, n: int | None = None) -> None:
    run.start(name)
    list(run(exited(name)))
    if n is not None:
        list(run(OutputsCollected(task=name, attempt=1, values={"n": n})))


def names(run: Driver) -> list[str]:
    return [task.plan.name for task in run.run.tasks]


def joined(whole: Plan) -> Driver:
    """A run whose agent has joined, so that the first iteration is there."""
    run = Driver(whole)
    list(run(hello()))
    return run


def test_a_plan_has_the_tasks_of_a_block_beside_the_others(tmp_path: Path) -> None:
    whole = plan(tmp_path)
    assert [task.name for task in whole.tasks] == ["use", "after"]
    assert [task.name for task in whole.block_tasks["step"]] == ["step~a", "step~b"]
    assert decode_plan(b"".join(encode_plan(whole))) == whole


def test_a_block_runs_in_the_place_of_its_task(tmp_path: Path) -> None:
    run = joined(plan(tmp_path, loop=""))
    assert names(run) == ["use", "after", "use.a", "use.b"]
    assert run.state("use") is S.WAITING
    assert run.why("use") == "iteration: its block"
    filled = run.run.task_named("use.a").attempt.filled
    assert filled is not None
    assert filled.script == "a 0 x"
    complete(run, "use.a")
    complete(run, "use.b", n=7)
    assert run.state("use") is S.COMPLETED
    assert run.run.outputs["use"] == {"n": 7, "done": True}
    assert run.run.task_named("after").attempt.filled.script == "got 7"  # type: ignore[union-attr]


def test_a_loop_carries_values_until_its_condition_holds(tmp_path: Path) -> None:
    run = joined(plan(tmp_path))
    for iteration, n in enumerate((0, 1, 2)):
        assert run.why("use") == f"iteration: iteration {iteration + 1} of at most 3"
        frame = run.run.task_named(f"use_{iteration}.a").plan.frame
        assert frame is not None
        assert frame.inputs == {"n": iteration if iteration == 0 else n, "text": "x"}
        complete(run, f"use_{iteration}.a")
        complete(run, f"use_{iteration}.b", n=n)
    assert run.why("use") == "block_ended: after 3 iterations, as until holds"
    assert run.state("after") is S.STARTING
    complete(run, "after")
    ended = [name for name in names(run) if name != "use"]
    list(run(*(cleared(name) for name in ended), goodbye()))
    assert run.run.outcome is Outcome.COMPLETED


@pytest.mark.parametrize(("at_limit", "state"), [("fail", S.FAILED), ("succeed", S.COMPLETED)])
def test_the_limit_of_a_loop_is_what_the_file_says(tmp_path: Path, at_limit: str, state: TaskState) -> None:
    loop = LOOP.replace("max_iterations: 3", f"max_iterations: 1, at_limit: {at_limit}")
    run = joined(plan(tmp_path, loop=loop))
    complete(run, "use_0.a")
    complete(run, "use_0.b", n=0)
    assert run.state("use") is state
    assert "after 1 iteration" in run.why("use")
    if at_limit == "fail":
        assert run.run.cause is not None
        assert run.run.cause.text.startswith(
            "task use failed: after 1 iteration its until ${{ last.outputs.done }} does"
        )


def test_a_value_of_another_type_fails_the_task_of_the_block(tmp_path: Path) -> None:
    run = joined(plan(tmp_path, given="{n: '${{ \"x\" }}'}"))
    assert run.state("use") is S.FAILED
    assert 'its block\'s input "n": wanted int, got str' in run.why("use")


def test_a_failure_inside_skips_what_needs_the_block(tmp_path: Path) -> None:
    run = joined(plan(tmp_path))
    run.start("use_0.a")
    list(run(exited("use_0.a", 1)))
    assert run.state("use_0.b") in (S.SKIPPED, S.CANCELLED)
    assert run.state("after") in (S.SKIPPED, S.CANCELLED)


def test_a_journal_replays_to_the_same_plan(tmp_path: Path) -> None:
    whole = plan(tmp_path)
    run = joined(whole)
    for iteration in range(2):
        complete(run, f"use_{iteration}.a")
        complete(run, f"use_{iteration}.b", n=iteration)
    assert replay(whole, run.journal) == run.commands
    again = Driver(whole)
    assert again.rebuild(run.journal, Recorded(transitions=100)).lost == []
    assert again.run.plan == run.run.plan


def two_iterations(folder: Path) -> Driver:
    run = joined(plan(folder))
    complete(run, "use_0.a")
    complete(run, "use_0.b", n=0)
    return run


def test_another_plan_of_the_run_has_the_same_iterations(tmp_path: Path) -> None:
    run = two_iterations(tmp_path)
    again = grown_like(plan(tmp_path), run.run.plan)
    assert [task.name for task in again.tasks] == names(run)
    use = next(task for task in again.tasks if task.name == "use")
    assert use == run.run.task_named("use").plan


def test_iterations_that_were_made_of_stale_outputs_are_left_out(tmp_path: Path) -> None:
    run = two_iterations(tmp_path)
    for iteration in (1,):
        complete(run, f"use_{iteration}.a")
        complete(run, f"use_{iteration}.b", n=1)
    whole = grown_like(plan(tmp_path), run.run.plan)

    def left(*stale: str) -> list[str]:
        return [
            task.name for task in without_stale(whole, lambda name: name not in stale).tasks if task.frame
        ]

    assert left() == [f"use_{number}.{task}" for number in range(3) for task in "ab"]
    assert left("use_1.a") == ["use_0.a", "use_0.b", "use_1.a", "use_1.b"]
    assert left("use_0.b", "use_1.a") == ["use_0.a", "use_0.b"]


def test_a_block_whose_dependency_runs_again_begins_anew(tmp_path: Path) -> None:
    more = "    first: {script: [x], outputs: [{pattern: 'n {n:d}'}]}\n"
    whole = plan(tmp_path, given="{n: '${{ task.first.outputs.n }}'}", more=more)
    run = Driver.joined(whole)
    complete(run, "first", n=5)
    frame = run.run.task_named("use_0.a").plan.frame
    assert frame is not None
    assert frame.inputs["n"] == 5
    grown: Any = grown_like(whole, run.run.plan)
    assert [task.name for task in without_stale(grown, lambda name: name != "first").tasks] == [
        "use",
        "first",
    ]
