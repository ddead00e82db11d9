"""What a resumed run need not do again."""

import msgspec

from sflow_ctl.core.actions.resume import PriorResult, decide
from sflow_ctl.core.model.rank_specs import rank_specs
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, hello, started

S = TaskState


def changed(task: PlannedTask, **fields: object) -> PlannedTask:
    return msgspec.structs.replace(task, **fields)


def done(old: Plan, new: Plan, *completed: str) -> tuple[list[str], dict[str, str]]:
    kept, again = decide(new, dict.fromkeys(completed, old), {})
    return sorted(kept), again


def test_completed_tasks_are_done() -> None:
    plan = a_plan(a_task("a"), a_task("b", "a"), a_task("c", "b"))
    assert done(plan, plan, "a", "b") == (["a", "b"], {})


def test_another_script_or_environment_is_other_work_and_so_is_all_that_builds_on_it() -> None:
    plan = a_plan(a_task("a"), a_task("b", "a"), a_task("c"))
    for fields in ({"script": "false"}, {"env": {"X": "1"}}):
        new = a_plan(changed(plan.tasks[0], **fields), *plan.tasks[1:])
        kept, again = done(plan, new, "a", "b", "c")
        assert kept == ["c"]
        assert again["b"] == "it needs a, which runs again"
        assert again["a"] in ("its script changed", "its environment variable X is new")


def test_another_place_is_the_same_work() -> None:
    plan = a_plan(
        changed(a_task("a"), env={"SFLOW_TASK_ASSIGNED_NODE_NAMES": "n1", "CUDA_VISIBLE_DEVICES": "0"})
    )
    new = a_plan(changed(plan.tasks[0], env={"SFLOW_TASK_ASSIGNED_NODE_NAMES": "n7"}))
    assert done(plan, new, "a") == (["a"], {})


def test_a_service_is_started_again_if_a_dependant_needs_it() -> None:
    plan = a_plan(
        a_task("s", service=True), a_task("t", "s", service=True), a_task("a", "t"), a_task("b", "s")
    )
    assert done(plan, plan, "s", "a", "b") == (["a", "b", "s", "t"], {})
    assert done(plan, plan, "s", "b") == (["b"], {})
    assert done(plan, plan, "s", "a") == (["a", "t"], {})


def test_a_service_without_dependants_is_started_again() -> None:
    plan = a_plan(a_task("s", service=True), a_task("a"))
    assert done(plan, plan, "s", "a") == (["a"], {})


def test_final_tasks_run_again() -> None:
    plan = a_plan(a_task("f", finally_when="after_stop"), a_task("a"))
    assert done(plan, plan, "f", "a") == (["a"], {"f": "it runs at the end of every run"})


def test_a_job_that_used_a_service_that_is_another_one_now_runs_again() -> None:
    plan = a_plan(
        a_task("p"), a_task("s", "p", service=True), a_task("t", "s", service=True), a_task("a", "t")
    )
    new = a_plan(plan.tasks[0], changed(plan.tasks[1], script="other"), *plan.tasks[2:])
    assert done(plan, new, "p", "a") == (
        ["p"],
        {"a": "it needs s, which is not what it was: its script changed"},
    )
    new = a_plan(changed(plan.tasks[0], script="other"), *plan.tasks[1:])
    assert done(plan, new, "p", "a") == ([], {"p": "its script changed", "a": "it needs p, which runs again"})


def test_r5_a_result_counts_for_the_plan_that_it_came_about_under() -> None:
    plan = a_plan(a_task("a"), a_task("b"))
    new = a_plan(changed(plan.tasks[0], script="new"), plan.tasks[1])
    kept, again = decide(new, {"a": plan, "b": new}, {})
    assert (kept, list(again)) == ({"b"}, ["a"])


def test_a_job_whose_outputs_are_gone_runs_again() -> None:
    plan = a_plan(a_task("a"))
    assert decide(plan, {"a": plan}, {"a": "its outputs are gone"}) == (set(), {"a": "its outputs are gone"})


def test_a_job_that_needs_one_that_has_not_completed_runs_again() -> None:
    plan = a_plan(a_task("a"), a_task("b", after_end=("a",)))
    assert done(plan, plan, "b") == ([], {"b": "it needs a, which has not completed"})


def test_a_resumed_scheduler_continues_the_numbers_of_attempts() -> None:
    plan = a_plan(a_task("a"), a_task("b", "a"), a_task("c", "b"))
    earlier = {
        "a": PriorResult(S.COMPLETED, 2, is_done=True),
        "b": PriorResult(S.FAILED, 1),
        "c": PriorResult(S.CANCELLED, 0),
    }
    run = Driver(plan, earlier=earlier)
    moves = [(one.task, one.attempt, str(one.old), str(one.new)) for one in run(hello()).transitions()]
    assert moves == [
        ("b", 1, "failed", "waiting"),
        ("c", 0, "cancelled", "waiting"),
        ("b", 2, "queued", "starting"),
    ]
    spec = rank_specs(run.task("b"), plan, stream=False)[0][1]
    assert spec.earlier_log == "b/b.attempt-1.log"
    for name, attempt in (("b", 2), ("c", 1)):
        run(started(name, attempt), exited(name, 0, attempt))
    assert run.leave().outcome is Outcome.COMPLETED


def test_a_run_whose_tasks_are_all_done_ends_at_once() -> None:
    plan = a_plan(a_task("s", service=True), a_task("a", "s"))
    earlier = {name: PriorResult(S.COMPLETED, 1, is_done=True) for name in ("s", "a")}
    run = Driver(plan, earlier=earlier)
    assert run(hello())[-1] == "0: leave 5"
    assert run.run.outcome is Outcome.COMPLETED
