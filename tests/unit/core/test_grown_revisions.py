"""Another plan for a live run whose plan has grown: which iterations and items count on, and which begin anew."""

from pathlib import Path

import pytest

from sflow_ctl.core.commands import ReviseRun
from sflow_ctl.core.events import OutputsCollected
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.revisions.growing import grown_like, items_in
from tests.unit.core.driver import Driver, replay
from tests.unit.core.plans import a_task, cleared, exited
from tests.unit.core.test_blocks import AFTER, BLOCK, LOOP, complete, joined, plan
from tests.unit.core.test_late_items import after, grown, late
from tests.unit.core.test_late_items import complete as complete_item
from tests.unit.core.test_late_items import plan as listed
from tests.unit.core.test_requests import answer
from tests.unit.core.test_revisions import apply, done, other, refusal
from tests.unit.planner.planning import plan_of

S = TaskState


def with_block(folder: Path, block: str, loop: str = LOOP) -> Plan:
    use = f"    use:\n      block: step\n      with: {{n: 0}}\n{loop}"
    return plan_of(folder, f"workflow:\n  name: w\n{block}  tasks:\n{use}{AFTER}")


def in_the_second(folder: Path, more: str = AFTER) -> Driver:
    """A run whose loop is in its second iteration, of which `b` runs."""
    run = joined(plan(folder, more=more))
    complete(run, "use_0.a")
    complete(run, "use_0.b", n=0)
    complete(run, "use_1.a")
    run.start("use_1.b")
    return run


def revise(run: Driver, new: Plan) -> None:
    lines = apply(run, grown_like(new, run.run.plan))
    assert lines.of(ReviseRun)
    assert not answer(lines).error


def wanted(run: Driver) -> list[str]:
    return [task.plan.name for task in run.run.tasks if not task.wanted.removed_in and task.plan.frame]


def end(run: Driver, *names: str) -> None:
    """Let tasks end that a revision has stopped."""
    for name in names:
        list(run(exited(name, signal=15), cleared(name)))


FIRST, SECOND = ["use_0.a", "use_0.b"], ["use_1.a", "use_1.b"]


@pytest.mark.parametrize(
    "change", [("max_iterations: 3", "max_iterations: 9"), ("last.outputs.done", "last.outputs.n > 7")]
)
def test_another_limit_or_condition_counts_from_the_present_iteration_on(
    change: tuple[str, str], tmp_path: Path
) -> None:
    run = in_the_second(tmp_path)
    revise(run, plan(tmp_path, loop=LOOP.replace(*change)))
    assert wanted(run) == [*FIRST, *SECOND]
    assert run.state("use_1.b") is S.RUNNING
    list(run(exited("use_1.b")))
    list(run(OutputsCollected(task="use_1.b", attempt=1, values={"n": 1})))
    assert wanted(run)[-2:] == ["use_2.a", "use_2.b"]


def test_what_iterations_were_given_or_handed_on_begins_anew_if_it_changes(tmp_path: Path) -> None:
    for new, kept in (
        (plan(tmp_path, given="{n: 5}"), []),
        (with_block(tmp_path, BLOCK.replace("default: x", "default: y")), []),
        (plan(tmp_path, loop=LOOP.replace("n + 1", "n + 2")), FIRST),
        (with_block(tmp_path, BLOCK.replace("outputs.n }}", "outputs.n + 0 }}")), FIRST),
        (with_block(tmp_path, BLOCK.replace('"b ', '"bb ')), FIRST),
    ):
        run = in_the_second(tmp_path)
        revise(run, new)
        assert wanted(run) == kept
        assert run.state("use_1.b") is S.STOPPING
        end(run, "use_1.b")
        assert len(wanted(run)) in (2, 4), "it continues once that is gone"
        assert [task.name for task in run.run.plan.tasks] == list(run.run.index_of)


def test_nothing_grows_while_a_revision_stops_tasks(tmp_path: Path) -> None:
    busy = AFTER + "    busy: {script: [sleep]}\n"
    run = in_the_second(tmp_path, busy)
    run.start("busy")
    new = plan(tmp_path, loop=LOOP.replace("n + 1", "n + 2"), more=busy.replace("sleep", "sleep 1"))
    revise(run, new)
    end(run, "use_1.b")
    assert run.state("busy") is S.STOPPING
    assert wanted(run) == FIRST
    end(run, "busy")
    list(run.wake())
    assert run.state("busy") is S.STARTING
    assert wanted(run) == [*FIRST, *SECOND]
    frame = run.run.task_named("use_1.a").plan.frame
    assert frame is not None
    assert frame.inputs["n"] == 2


def test_a_loop_that_has_ended_is_decided_again_by_another_limit(tmp_path: Path) -> None:
    more, loop = (
        "    busy: {script: [sleep]}\n",
        LOOP.replace("max_iterations: 3", "max_iterations: 1, at_limit: succeed"),
    )
    run = joined(plan(tmp_path, loop=loop, more=more))
    run.start("busy")
    complete(run, "use_0.a")
    complete(run, "use_0.b", n=0)
    assert run.state("use") is S.COMPLETED
    revise(run, plan(tmp_path, loop=LOOP, more=more))
    assert wanted(run) == [*FIRST, *SECOND]
    assert run.state("use") is S.WAITING


def test_a_plan_that_was_compared_before_tasks_were_added_counts(tmp_path: Path) -> None:
    run = in_the_second(tmp_path)
    new, base = (
        grown_like(plan(tmp_path, more=AFTER.replace("got", "had")), run.run.plan),
        run.run.plan.revision,
    )
    list(run(exited("use_1.b")))
    list(run(OutputsCollected(task="use_1.b", attempt=1, values={"n": 1})))
    assert run.run.plan.revision == base + 1
    answered = done(apply(run, new, base))
    assert answered.revision == base + 2
    assert wanted(run) == [*FIRST, *SECOND, "use_2.a", "use_2.b"]
    assert "had" in run.run.task_named("after").plan.script
    refused = refusal(apply(run, new, base))
    assert refused == f"revision {base + 2} is in force, and this was compared with revision {base}"


def test_items_stay_while_their_list_does_and_change_with_it() -> None:
    lister, busy = a_task("list"), a_task("busy")
    each, last = late("each", "list"), after("last", "each")
    run = grown(["a", "b"], each, last, busy)
    run.start("busy")
    complete_item(run, "each_0")
    done(apply(run, grown_like(listed(each, other(last), busy), run.run.plan)))
    assert items_in(run.run.plan, "each") == ["a", "b"]
    assert run.state("each_0") is S.COMPLETED
    fewer = late("each", "list", items="${{ task.list.outputs.names[:1] }}")
    revise(run, listed(fewer, other(last), busy))
    end(run, *[name for name in ("each_0", "each_1") if run.state(name) is S.STOPPING])
    assert items_in(run.run.plan, "each") == ["a"]
    assert run.run.task_named("each_1").plan.removed_in
    assert lister.name in run.run.index_of


def test_a_journal_with_such_revisions_replays_to_the_same_plan(tmp_path: Path) -> None:
    whole = plan(tmp_path)
    run = in_the_second(tmp_path)
    revise(run, plan(tmp_path, loop=LOOP.replace("n + 1", "n + 2")))
    end(run, "use_1.b")
    assert replay(whole, run.journal, plans=run.plans.__getitem__) == run.commands


def test_a_block_that_becomes_a_plain_task_takes_its_iterations_along(tmp_path: Path) -> None:
    run = in_the_second(tmp_path)
    text = "  tasks:\n    use: {script: [x]}\n    after: {depends_on: use, script: [y]}\n"
    revise(run, plan_of(tmp_path, f"workflow:\n  name: w\n{text}"))
    assert wanted(run) == []
    end(run, "use_1.b")
    assert run.state("use") is S.STARTING
