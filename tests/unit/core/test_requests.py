"""What operators ask of a live run: stops of the run and of tasks, each request once."""

from protocol.messages.orders import Stop
from sflow_ctl.core.commands import AnswerRequest
from sflow_ctl.core.events import OperatorRequest, StopRequested
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.requests import (
    MAX_REMEMBERED,
    AnyAction,
    Pause,
    RequestAnswer,
    RequestBook,
    RestartTasks,
    StopRun,
    StopTasks,
)
from sflow_ctl.core.states import Outcome
from sflow_ctl.plan.parts.again import Restart
from tests.unit.core.driver import Driver, Lines
from tests.unit.core.plans import HTTP, a_plan, a_task, cleared, exited, leased


def request(action: AnyAction, request_id: str = "r1") -> OperatorRequest:
    return OperatorRequest(id=request_id, by="op on here", action=action)


def stop(*tasks: str, kill: bool = False, request_id: str = "r1") -> OperatorRequest:
    return request(StopTasks(tasks=tasks, is_killed=kill), request_id)


def answer(lines: Lines) -> RequestAnswer:
    (found,) = lines.of(AnswerRequest)
    return found.answer


def texts(lines: Lines) -> list[str]:
    return [f"{effect.task} {effect.text}" for effect in answer(lines).effects]


def test_a_running_task_is_stopped_and_the_others_continue() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b")))
    driver.start("a", "b")
    lines = driver(stop("a"))
    assert texts(lines) == ["a is being stopped"]
    assert lines.orders(Stop)[0].attempt.task == "a"
    driver(exited("a", signal=15, cleared=True))
    assert driver.states("a", "b") == ["cancelled", "running"]
    assert driver.why("a") == "stopped: stopped on request of op on here"
    assert driver.run.phase is RunPhase.RUNNING
    driver.end("b")
    assert driver.run.outcome is Outcome.FAILED
    assert driver.cause() == "task a did not complete: stopped on request of op on here"


def test_a_task_that_has_not_started_does_not_start_and_what_needs_it_is_skipped() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b", "a"), a_task("c", "b"), a_task("d", "a")))
    driver.start("a")
    lines = driver(stop("b"))
    assert texts(lines) == ["b does not start"]
    assert driver.states("b", "c") == ["cancelled", "skipped"]
    driver.end("a")
    assert driver.state("d") == "starting"


def test_a_stopped_service_takes_what_needs_it_alive_with_it() -> None:
    driver = Driver.joined(a_plan(a_task("srv", service=True), a_task("cli", "srv"), a_task("other")))
    driver.serve("srv")
    driver.start("cli", "other")
    assert answer(driver(stop("srv"))).effects
    driver.end("srv", signal=15)
    driver.end("cli", signal=15)
    assert driver.states("srv", "cli", "other") == ["cancelled", "cancelled", "running"]
    assert driver.why("cli") == "upstream: needs srv, which is cancelled"
    driver.end("other")
    assert driver.run.outcome is Outcome.FAILED
    assert driver.cause() == (
        "srv was stopped on request of op on here, and cli, which needs it, did not complete"
    ), "the stop is the cause, not what followed from it"


def test_a_service_with_on_failure_continue_leaves_its_clients_alone() -> None:
    srv = a_task("srv", service=True, on_failure="continue")
    driver = Driver.joined(a_plan(srv, a_task("cli", "srv")))
    driver.serve("srv")
    driver.start("cli")
    assert answer(driver(stop("srv"))).effects
    driver.end("srv", signal=15)
    assert driver.states("srv", "cli") == ["cancelled", "running"]
    driver.end("cli")
    assert driver.run.outcome is Outcome.COMPLETED


def test_a_stopped_service_without_clients_does_not_fail_the_run() -> None:
    driver = Driver.joined(a_plan(a_task("srv", service=True), a_task("job")))
    driver.serve("srv")
    driver.start("job")
    assert answer(driver(stop("srv"))).effects
    driver.end("srv", signal=15)
    driver.end("job")
    assert driver.run.outcome is Outcome.COMPLETED


def test_a_service_is_not_restarted_after_a_stop() -> None:
    srv = a_task("srv", service=True, restart=Restart(count=3))
    driver = Driver.joined(a_plan(srv, a_task("job")))
    driver.serve("srv")
    driver.start("job")
    assert answer(driver(stop("srv"))).effects
    driver.end("srv", signal=15)
    assert driver.state("srv") == "cancelled"


def test_a_stop_ends_the_wait_for_the_next_attempt() -> None:
    driver = Driver.joined(a_plan(a_task("a", retries=2, interval_s=60.0, ports=(HTTP,)), a_task("b")))
    driver(leased("a", 1, http=4000))
    driver.start("a", "b")
    driver.end("a", 1)
    assert driver.state("a") == "waiting"
    lines = driver(stop("a"))
    assert texts(lines) == ["a does not start again"]
    assert "0: release a" in lines
    assert driver.state("a") == "cancelled"
    driver.wake()
    assert driver.state("a") == "cancelled"


def test_a_stop_of_a_task_that_is_stopping_towards_a_retry_is_its_end() -> None:
    driver = Driver.joined(a_plan(a_task("a", retries=2, interval_s=0.0), a_task("b")))
    driver.start("a", "b")
    driver(exited("a", 1, cleared=False))
    assert driver.state("a") == "stopping"
    assert texts(driver(stop("a"))) == ["a is being stopped already, and does not start again"]
    assert texts(driver(stop("a", request_id="r2"))) == ["a is being stopped already"]
    driver(cleared("a"))
    assert driver.state("a") == "cancelled"


def test_a_kill_has_no_grace_and_follows_a_stop() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b")))
    driver.start("a", "b")
    driver(stop("a")).of(AnswerRequest)
    lines = driver(stop("a", kill=True, request_id="r2"))
    assert texts(lines) == ["a is being killed"]
    (order,) = lines.orders(Stop)
    assert (order.grace_s, order.is_forced) == (0.0, True)
    again = driver(stop("a", kill=True, request_id="r3"))
    assert texts(again) == ["a is being killed already"]
    assert not again.orders(Stop)


def test_a_task_that_has_ended_is_left_as_it_is() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b")))
    driver.start("a", "b")
    driver.end("a")
    lines = driver(stop("a", "b"))
    assert texts(lines) == ["a has ended already: completed", "b is being stopped"]
    assert [effect.is_changed for effect in answer(lines).effects] == [False, True]


def test_a_request_about_an_unknown_task_does_nothing() -> None:
    driver = Driver.joined(a_plan(a_task("a")))
    driver.start("a")
    lines = driver(stop("a", "x"))
    assert answer(lines).error == "the run has no task x"
    assert not lines.orders(Stop)
    assert driver.state("a") == "running"


def test_a_request_that_comes_again_is_answered_and_not_carried_out() -> None:
    driver = Driver.joined(a_plan(a_task("a", retries=3, interval_s=0.0), a_task("b")))
    driver.start("a", "b")
    first = answer(driver(stop("a")))
    driver.end("a", signal=15)
    lines = driver(stop("a"))
    (again,) = lines.of(AnswerRequest)
    assert (again.answer, again.is_repeated) == (first, True)
    assert not lines.orders(Stop)


def test_the_run_is_stopped_as_by_ctrl_c() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b", "a")))
    driver.start("a")
    lines = driver(request(StopRun()))
    assert answer(lines).text == "stopping the run: 1 live task"
    assert driver.states("a", "b") == ["stopping", "cancelled"]
    assert driver.run.outcome is Outcome.INTERRUPTED
    assert driver.cause() == "stopped on request of op on here"
    lines = driver(stop("a", request_id="r2"))
    assert answer(lines).error == "the run is ending, and stops its tasks in their order"
    lines = driver(request(StopRun(), "r3"))
    assert "is ending already" in answer(lines).text
    lines = driver(request(StopRun(is_killed=True), "r4"))
    assert "killing the run" in answer(lines).text
    assert [order.is_forced for order in lines.orders(Stop)] == [True]
    driver.end("a", signal=9)
    assert answer(driver(request(StopRun(), "r5"))).error.startswith("the run has ended")


def test_one_task_of_an_ending_run_can_be_killed() -> None:
    driver = Driver.joined(a_plan(a_task("srv", service=True), a_task("a", "srv")))
    driver.serve("srv")
    driver.start("a")
    driver(StopRequested(signal="SIGINT"))
    lines = driver(stop("srv", kill=True))
    assert texts(lines) == ["srv is being killed"]
    assert [(one.attempt.task, one.is_forced) for one in lines.orders(Stop)] == [("srv", True)]


def test_a_stop_of_an_attempt_that_waits_for_ports_ends_it_at_once() -> None:
    driver = Driver.joined(a_plan(a_task("a", ports=(HTTP,)), a_task("b")))
    lines = driver(stop("a"))
    assert texts(lines) == ["a is being stopped"]
    assert driver.state("a") == "cancelled"


def test_few_answers_are_remembered() -> None:
    book = RequestBook()
    for number in range(MAX_REMEMBERED + 1):
        book.remember(str(number), RequestAnswer(text="done"))
    assert len(book.answers) == MAX_REMEMBERED
    assert "0" not in book.answers


def test_a_restart_in_a_paused_run_says_what_it_waits_for() -> None:
    driver = Driver.joined(a_plan(a_task("a")))
    driver.start("a")
    assert answer(driver(request(Pause()))).text
    lines = driver(request(RestartTasks(tasks=("a",)), "r2"))
    assert texts(lines) == ["a is being stopped, and starts again"]
    assert answer(lines).text == "the run is paused: what starts again waits for `sflow-ctl unpause`"
