"""What a rerun runs again, keeps, leaves and refuses."""

from sflow_ctl.core.actions.resume import PriorResult
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.selecting.rerun import (
    Before,
    Rerun,
    RerunChoice,
    ended_and_live,
    rerun,
    with_followers,
)
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, hello, started

S = TaskState


def chosen(
    plan: Plan, states: dict[str, TaskState], *tasks: str, only: bool = False, **said: dict[str, str]
) -> Rerun:
    completed = [name for name, state in states.items() if state is S.COMPLETED]
    before = Before(states, completed, said.get("changed", {}), said.get("unreadable", {}))
    return rerun(plan, before, RerunChoice(tasks, only))


CHAIN = a_plan(a_task("a"), a_task("b", "a"), a_task("c", "b"), a_task("d"))


def test_what_depends_on_a_chosen_task_runs_again_and_the_rest_is_kept_or_left() -> None:
    states = {"a": S.COMPLETED, "b": S.FAILED, "c": S.SKIPPED, "d": S.FAILED}
    found = chosen(CHAIN, states, "b")
    assert found.again == {"b": "it is chosen; it had failed", "c": "it needs b, which runs again"}
    assert found.kept == {"a"}
    assert found.left == {"d": "it had failed, and is not chosen"}
    assert found.missed == {"d"}
    assert not found.refused


def test_completed_tasks_run_again_when_they_are_chosen_or_follow() -> None:
    found = chosen(CHAIN, dict.fromkeys("abcd", S.COMPLETED), "a")
    assert list(found.again) == ["a", "b", "c"]
    assert found.kept == {"d"}
    assert not found.missed


def test_only_keeps_what_follows_and_says_so() -> None:
    found = chosen(CHAIN, dict.fromkeys("abcd", S.COMPLETED), "a", only=True)
    assert list(found.again) == ["a"]
    assert found.notes == ("b is kept, although a, which it needs, runs again",)
    skipped = {"a": S.FAILED, "b": S.SKIPPED, "c": S.SKIPPED, "d": S.COMPLETED}
    found = chosen(CHAIN, skipped, "a", only=True)
    assert list(found.left) == ["b", "c"]
    assert found.missed == {"b", "c"}  # they may run now, and do not


def test_what_runs_at_the_end_runs_again_whatever_is_chosen() -> None:
    plan = a_plan(a_task("a"), a_task("b"), a_task("end", finally_when="after_stop"))
    for end in (S.COMPLETED, S.FAILED, S.CANCELLED, S.LOST):
        for only in (False, True):
            found = chosen(plan, {"a": S.FAILED, "b": S.COMPLETED, "end": end}, "a", only=only)
            assert found.again["end"] == "it runs at the end of every run"
            assert set(found.again) == {"a", "end"}
            assert found.kept == {"b"}
            assert not found.left
            assert not found.missed
    before = Before({"a": S.FAILED, "b": S.COMPLETED, "end": S.FAILED}, ["b"], {}, {})
    lacking = rerun(plan, before, RerunChoice(keeps_completed=True))
    assert lacking.again == {
        "a": "it is chosen; it had failed",
        "end": "it runs at the end of every run",
    }


def test_what_may_fail_and_what_stays_skipped_is_not_missed() -> None:
    plan = a_plan(
        a_task("a"), a_task("may", on_failure="continue"), a_task("b"), a_task("off", "b"), a_task("c", "off")
    )
    states = {"a": S.FAILED, "may": S.FAILED, "b": S.COMPLETED, "off": S.SKIPPED, "c": S.SKIPPED}
    found = chosen(plan, states, "a")
    assert set(found.left) == {"may", "off", "c"}
    assert found.missed == {"c"}  # what it needs is left, and might have run


def test_a_chosen_task_without_what_it_needs_is_refused() -> None:
    states = {"a": S.FAILED, "b": S.SKIPPED, "c": S.SKIPPED, "d": S.COMPLETED}
    found = chosen(CHAIN, states, "c")
    assert found.refused == {"c": "it needs b, which was skipped, and does not run again"}
    assert not chosen(CHAIN, states, "b", "a").refused


def test_a_result_that_cannot_be_read_is_not_built_on() -> None:
    states = {"a": S.COMPLETED, "b": S.FAILED, "c": S.SKIPPED, "d": S.COMPLETED}
    gone = {"a": "its outputs.json cannot be read"}
    assert chosen(CHAIN, states, "b", changed=gone, unreadable=gone).refused == {
        "b": "it needs a: its outputs.json cannot be read"
    }


def test_kept_work_that_is_another_one_now_is_named() -> None:
    found = chosen(
        CHAIN, {**dict.fromkeys("abc", S.COMPLETED), "d": S.FAILED}, "d", changed={"a": "its script changed"}
    )
    assert found.notes == ("a is kept, although its script changed: choose it as well to run it again",)


def test_services_run_for_their_users_and_rest_without() -> None:
    plan = a_plan(a_task("s", service=True), a_task("x", "s"), a_task("y", "s"), a_task("z"))
    states = {"s": S.COMPLETED, "x": S.FAILED, "y": S.COMPLETED, "z": S.FAILED}
    with_user = chosen(plan, states, "x")
    assert list(with_user.again) == ["x"]
    assert with_user.kept == {"y"}  # the service starts, though nothing but its user is chosen
    assert chosen(plan, states, "x", "z").kept == {"y"}
    assert chosen(plan, {**states, "x": S.COMPLETED}, "z").kept == {"x", "y", "s"}


def test_what_is_left_keeps_the_run_from_being_complete() -> None:
    plan = a_plan(a_task("a", on_failure="isolate"), a_task("b", on_failure="isolate"), a_task("c", "b"))
    earlier = {
        "a": PriorResult(S.FAILED, 1, why_again="it is chosen; it had failed"),
        "b": PriorResult(S.FAILED, 2, why_left="it had failed, and is not chosen", is_missed=True),
        "c": PriorResult(S.SKIPPED, 0, why_left="it was skipped, and is not chosen"),
    }
    driver = Driver(plan, earlier=earlier)
    moves = [(one.task, str(one.old), str(one.new)) for one in driver(hello()).transitions()]
    assert moves == [("a", "failed", "waiting"), ("a", "queued", "starting")]
    driver(started("a", 2), exited("a", 0, 2))
    end = driver.leave()
    assert end.outcome is Outcome.FAILED
    assert end.cause is not None
    assert end.cause.text == "task b was not run again: it had failed, and is not chosen"


def test_a_task_that_lived_when_its_controller_died_is_lost_when_it_is_left() -> None:
    plan = a_plan(a_task("a"), a_task("b"), a_task("c"))
    earlier = {
        "a": PriorResult(S.FAILED, 1),
        "b": PriorResult(
            S.RUNNING, 1, why_left="it was running when its controller ended, and is not chosen"
        ),
        "c": PriorResult(S.WAITING, 0, why_left="it had not started, and is not chosen"),
    }
    moves = [
        (one.task, str(one.old), str(one.new)) for one in Driver(plan, earlier=earlier)(hello()).transitions()
    ]
    assert moves[:3] == [("a", "failed", "waiting"), ("b", "running", "lost"), ("c", "waiting", "skipped")]


def test_in_a_live_run_nothing_that_lives_is_chosen_and_followers_come_after() -> None:
    plan = a_plan(a_task("b", "a"), a_task("a"), a_task("c", "b"), a_task("end", finally_when="after_stop"))
    assert with_followers(["a"], plan) == ["a", "b", "c"]
    for state in S:
        states = {"a": S.COMPLETED, "b": S.FAILED, "c": state, "end": S.WAITING}
        ended, live = ended_and_live(["c", "b", "a"], states, plan)
        assert ended == (["a", "b", "c"] if "c" in ended else ["a", "b"])
        assert (live == ["c"]) == (state in {S.WAITING, S.QUEUED, S.STARTING, S.RUNNING, S.READY, S.STOPPING})


def test_only_what_may_still_run_and_counts_is_missed() -> None:
    plan = a_plan(
        a_task("a"),
        a_task("b", on_failure="continue"),
        a_task("c"),
        a_task("d", "c"),
        a_task("s", service=True),
        a_task("u", "s"),
    )
    states = {
        "a": S.COMPLETED,
        "b": S.FAILED,  # its failure does not count
        "c": S.COMPLETED,
        "d": S.SKIPPED,  # by a condition: what it needs rests
        "s": S.FAILED,  # nothing that runs needs it
        "u": S.COMPLETED,
    }
    found = chosen(plan, states, "a")
    assert found.left.keys() == {"b", "d"}
    assert not found.missed


def test_tasks_at_the_end_run_again_and_make_no_others_follow() -> None:
    plan = a_plan(a_task("a"), a_task("b"), a_task("end", finally_when="after_stop"))
    states = dict.fromkeys(("a", "b", "end"), S.COMPLETED)
    for only in (False, True):
        found = chosen(plan, states, "a", only=only)
        assert found.again["end"] == "it runs at the end of every run"
        assert list(found.again) == ["a", "end"]
        assert found.kept == {"b"}
    again = rerun(
        plan, Before({**states, "a": S.FAILED}, ["b", "end"], {}, {}), RerunChoice(keeps_completed=True)
    )
    assert list(again.again) == ["a", "end"]


def test_what_follows_any_of_several_needs_runs_again() -> None:
    plan = a_plan(a_task("a"), a_task("b"), a_task("c", "a", "b"), a_task("d", "a"))
    found = chosen(plan, dict.fromkeys("abcd", S.COMPLETED), "b")
    assert found.again == {"b": "it is chosen; it had completed", "c": "it needs b, which runs again"}
    assert found.kept == {"a", "d"}


def test_a_need_is_met_as_far_as_its_condition_asks() -> None:
    plan = a_plan(
        a_task("a"),
        a_task("after", after_end=("a",)),
        a_task("if_failed", after_failure=("a",)),
        a_task("copy_0", base="copy"),
        a_task("copy_1", base="copy"),
        a_task("all", groups=("copy",)),
        a_task("s", "a", service=True),
        a_task("user", "s"),
    )
    names = [task.name for task in plan.tasks]
    failed = dict.fromkeys(names, S.COMPLETED) | {"a": S.FAILED, "copy_1": S.FAILED}
    found = chosen(plan, failed, "after", "if_failed", "all", "user", only=True)
    assert list(found.again) == ["after"]  # the end of a is enough
    assert found.refused == {
        "if_failed": "it needs a, which had failed, and does not run again",
        "all": "it needs copy_1, which had failed, and does not run again",
        "user": "it needs a, which had failed, and does not run again",  # the service would not start
    }
    new = {name: state for name, state in failed.items() if name != "a"}
    assert "a, which is new" in chosen(plan, new, "after", only=True).refused["after"]
    whole = dict.fromkeys(names, S.COMPLETED)
    assert "a, which had completed" in chosen(plan, whole, "if_failed", only=True).refused["if_failed"]


def test_chains_of_services_rest_and_the_chosen_ones_do_not() -> None:
    plan = a_plan(a_task("s", service=True), a_task("t", "s", service=True), a_task("u", "t"), a_task("v"))
    states = dict.fromkeys("stuv", S.COMPLETED)
    assert chosen(plan, states, "v").kept == {"s", "t", "u"}
    found = chosen(plan, states, "s", only=True)
    assert list(found.again) == ["s"]
    assert found.kept == {"t", "u", "v"}
    lives = chosen(plan, {**states, "u": S.RUNNING}, "v")
    assert lives.left == {"u": "it was running when its controller ended, and is not chosen"}
    assert lives.kept == {"s", "t"}
    assert lives.missed == {"u"}


def test_what_has_no_result_is_chosen_where_all_results_are_kept() -> None:
    plan = a_plan(
        a_task("a"), a_task("b", "a"), a_task("s", service=True), a_task("e", finally_when="after_stop")
    )
    states = {"a": S.FAILED, "b": S.COMPLETED, "s": S.FAILED, "e": S.COMPLETED}
    because = {"b": "its script changed"}
    found = rerun(plan, Before(states, ["b"], because, {}), RerunChoice(keeps_completed=True))
    assert found.again == {
        "a": "it is chosen; it had failed",
        "e": "it runs at the end of every run",
    }
    assert found.kept == {"b", "s"}
    assert len(found.notes) == 2
    follows = Before(states, ["b"], {"b": "it needs a, which runs again"}, {})
    assert len(rerun(plan, follows, RerunChoice(keeps_completed=True)).notes) == 1


def test_followers_in_a_live_run_need_one_of_those_and_are_none_of_the_end() -> None:
    plan = a_plan(
        a_task("a"), a_task("b"), a_task("c", "a", "b"), a_task("end", "a", finally_when="after_stop")
    )
    assert with_followers(["a"], plan) == ["a", "c"]


def test_followers_are_those_of_the_named_tasks_and_not_what_runs_at_the_end() -> None:
    plan = a_plan(
        a_task("a"),
        a_task("e"),
        a_task("both", "a", "e"),
        a_task("other", "e"),
        a_task("end", "a", finally_when="after_stop"),
    )
    assert with_followers(["a"], plan) == ["a", "both"]


def test_a_service_is_not_chosen_because_it_has_no_result() -> None:
    plan = a_plan(a_task("s", service=True), a_task("x", "s"), a_task("y"))
    before = Before({"s": S.FAILED, "x": S.COMPLETED, "y": S.FAILED}, ["x"], {}, {})
    assert set(rerun(plan, before, RerunChoice(keeps_completed=True)).again) == {"y"}
