"""Restarts, signals and pauses that operators ask for."""

from signal import SIGHUP, SIGUSR1

import msgspec
import pytest

from protocol.messages.orders import Lease, SignalAttempt, Stop
from sflow_ctl.core.requests import AnyAction, Pause, RestartTasks, SignalTasks, StopTasks, Unpause
from sflow_ctl.core.states import Outcome
from sflow_ctl.plan.model import Placement
from sflow_ctl.plan.parts.again import Restart
from tests.unit.core.driver import Driver, Lines
from tests.unit.core.plans import HTTP, a_plan, a_task, cleared, exited, leased
from tests.unit.core.test_requests import answer, request, texts


def ask(driver: Driver, action: AnyAction) -> Lines:
    return driver(request(action, f"r{len(driver.journal)}"))


def restart(driver: Driver, *tasks: str) -> list[str]:
    return texts(ask(driver, RestartTasks(tasks=tasks)))


def refusal(driver: Driver, action: AnyAction) -> str:
    lines = ask(driver, action)
    assert not lines.transitions()
    return answer(lines).error


def test_a_live_task_is_stopped_and_starts_again_in_its_place() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b")))
    driver.start("a", "b")
    lines = ask(driver, RestartTasks(tasks=("a",)))
    assert texts(lines) == ["a is being stopped, and starts again"]
    assert [order.attempt.task for order in lines.orders(Stop)] == ["a"]
    driver(exited("a", signal=15, cleared=False))
    assert driver.state("a") == "stopping"  # never two attempts at once
    driver(cleared("a"))
    driver.wake()
    assert driver.task("a").attempt.number == 2
    assert driver.state("a") == "starting"
    assert driver.task("a").retries_used == 0


@pytest.mark.parametrize("dependents", [True, False])
def test_clients_of_a_restarted_service_do_as_its_policy_says(dependents: bool) -> None:
    srv = a_task("srv", service=True, restart=Restart(count=1, restarts_dependents=dependents))
    driver = Driver.joined(a_plan(srv, a_task("cli", "srv")))
    driver.serve("srv")
    driver.start("cli")
    assert restart(driver, "srv") == ["srv is being stopped, and starts again"]
    driver.end("srv", signal=15)
    assert driver.state("cli") == ("stopping" if dependents else "running")
    assert driver.task("srv").restarted_at == ()


def test_a_failed_task_starts_again_with_what_was_skipped_because_of_it() -> None:
    failing = a_task("a", on_failure="isolate", retries=1, interval_s=0.0)
    tasks = [a_task("b", "a"), a_task("c", "b"), a_task("rest")]
    driver = Driver.joined(a_plan(failing, *tasks))
    driver.start("a", "rest")
    driver.end("a", 1)
    driver.wake()
    driver.start("a")
    driver.end("a", 1)
    assert driver.states("a", "b", "c") == ["failed", "skipped", "skipped"]
    assert restart(driver, "a") == [
        "a starts again; it was failed",
        "b starts again; it was skipped",
        "c starts again; it was skipped",
    ]
    assert driver.states("a", "b", "c") == ["starting", "waiting", "waiting"]
    for name in ("a", "b", "c"):
        driver.start(name)
        driver.end(name)
    driver.end("rest")
    assert driver.run.outcome is Outcome.COMPLETED


def test_a_task_that_needs_two_of_those_that_start_again_does_so_once() -> None:
    failing = a_task("a", on_failure="isolate")
    driver = Driver.joined(a_plan(failing, a_task("b", "a"), a_task("c", "a", "b"), a_task("rest")))
    driver.start("a", "rest")
    driver.end("a", 1)
    assert driver.states("a", "b", "c") == ["failed", "skipped", "skipped"]
    assert restart(driver, "a") == [
        "a starts again; it was failed",
        "b starts again; it was skipped",
        "c starts again; it was skipped",
    ]
    assert driver.states("a", "b", "c") == ["starting", "waiting", "waiting"]


def test_the_failure_of_another_task_stays_that_of_the_run() -> None:
    driver = Driver.joined(
        a_plan(*(a_task(name, on_failure="isolate") for name in ("a", "b")), a_task("rest"))
    )
    driver.start("a", "b", "rest")
    driver.end("a", 1)
    driver.end("b", 2)
    assert restart(driver, "a") == ["a starts again; it was failed"]
    driver.start("a")
    driver.end("a")
    driver.end("rest")
    assert driver.run.outcome is Outcome.FAILED
    assert driver.cause() == "task b failed: exit status 2"


def test_a_completed_job_runs_again_and_its_dependants_do_not() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b", "a"), a_task("rest")))
    driver.start("a", "rest")
    driver.end("a")
    driver.start("b")
    driver.end("b")
    assert restart(driver, "a") == ["a starts again; it was completed"]
    driver.start("a")
    driver.end("a")
    assert driver.task("a").attempt.number == 2
    assert driver.task("b").attempt.number == 1


def test_a_stopped_service_and_its_clients_start_again() -> None:
    srv = a_task("srv", service=True, restart=Restart(count=0, restarts_dependents=True))
    driver = Driver.joined(a_plan(srv, a_task("cli", "srv"), a_task("rest")))
    driver.serve("srv")
    driver.start("cli", "rest")
    assert answer(ask(driver, StopTasks(tasks=("srv",)))).effects
    driver.end("srv", signal=15)
    driver.end("cli", signal=15)
    assert restart(driver, "srv") == [
        "srv starts again; it was cancelled",
        "cli starts again; it was cancelled",
    ]
    driver.serve("srv")
    driver.start("cli")
    driver.end("cli")
    driver.end("rest")
    assert driver.run.outcome is Outcome.COMPLETED


def test_ports_are_leased_anew() -> None:
    driver = Driver.joined(a_plan(a_task("a", ports=(HTTP,), on_failure="isolate"), a_task("rest")))
    driver(leased("a", 1, http=4000))
    driver.start("a", "rest")
    driver.end("a", 1)
    lines = ask(driver, RestartTasks(tasks=("a",)))
    assert texts(lines) == ["a starts again; it was failed"]
    assert [order.number for order in lines.orders(Lease)] == [2]
    assert "spawn" not in " ".join(lines)


def test_kept_gpus_are_the_tasks_own_again() -> None:
    one = Placement(nodes=(0,), is_flexible=True, gpus_per_node=1, node_count=1)
    keeper = msgspec.structs.replace(a_task("a", placement=one), keeps_gpus=True)
    driver = Driver.joined(a_plan(keeper, a_task("rest"), gpus=1))
    driver.start("a", "rest")
    driver.end("a")
    assert driver.run.kept
    assert restart(driver, "a") == ["a starts again; it was completed"]
    assert driver.state("a") == "starting"
    assert not driver.run.kept


def test_the_wait_for_a_retry_is_cut_short() -> None:
    driver = Driver.joined(a_plan(a_task("a", retries=1, interval_s=60.0), a_task("rest")))
    driver.start("a", "rest")
    driver.end("a", 1)
    assert restart(driver, "a") == ["a starts again at once"]
    assert driver.state("a") == "starting"
    driver.wake()  # the timer of the retry
    assert driver.task("a").attempt.number == 2


def test_a_task_that_is_stopping_starts_again() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("rest")))
    driver.start("a", "rest")
    assert answer(ask(driver, StopTasks(tasks=("a",)))).effects
    assert restart(driver, "a") == ["a is being stopped already, and starts again"]
    assert restart(driver, "a") == ["a is being stopped, and starts again already"]
    driver.end("a", signal=15)
    driver.wake()
    assert driver.state("a") == "starting"
    assert not driver.run.requests.stopped


def test_what_cannot_start_again_is_said_and_nothing_is_done() -> None:
    final = a_task("f", finally_when="after_stop")
    tasks = [a_task("a"), a_task("b", "a"), a_task("bad", on_failure="isolate"), a_task("x", "bad"), final]
    driver = Driver.joined(a_plan(*tasks))
    driver.start("a", "bad")
    driver.end("bad", 1)
    assert refusal(driver, RestartTasks(tasks=("a", "b"))) == "b has not started yet"
    assert refusal(driver, RestartTasks(tasks=("f",))) == "f belongs to the end of the run"
    assert refusal(driver, RestartTasks(tasks=("x",))) == "x cannot start: it needs bad, which is failed"
    assert restart(driver, "x", "bad")[-1].startswith("bad starts again")
    driver.end("a", 1)
    assert refusal(driver, RestartTasks(tasks=("a",))) == "the run is ending: nothing starts again"


def test_a_restart_of_one_need_does_not_make_up_for_another_that_is_not_met() -> None:
    plan = a_plan(a_task("a"), a_task("b", "a"), a_task("c", "a", after_failure=("b",)), a_task("rest"))
    driver = Driver.joined(plan)
    driver.start("a")
    assert texts(ask(driver, StopTasks(tasks=("b", "c")))) == ["b does not start", "c does not start"]
    error = refusal(driver, RestartTasks(tasks=("c", "a")))
    assert error == "c cannot start: it needs b, which is cancelled"
    assert restart(driver, "c", "b")[0] == "c starts again; it was cancelled"
    assert driver.states("b", "c") == ["waiting", "waiting"]


def test_a_draining_run_starts_nothing_again() -> None:
    driver = Driver.joined(a_plan(a_task("a", on_failure="drain"), a_task("b")))
    driver.start("a", "b")
    driver.end("a", 1)
    assert "on_failure: drain" in refusal(driver, RestartTasks(tasks=("a",)))


def test_leftovers_of_the_last_attempt_end_first() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b")))
    driver.start("a", "b")
    driver(exited("a", cleared=False))
    assert "is being ended: ask again" in refusal(driver, RestartTasks(tasks=("a",)))
    driver(cleared("a"))
    assert restart(driver, "a") == ["a starts again; it was completed"]


def test_a_signal_goes_to_the_nodes_of_running_tasks() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b", "a")))
    driver.start("a")
    lines = ask(driver, SignalTasks(tasks=("a",), signal=SIGUSR1))
    assert texts(lines) == ["a gets SIGUSR1"]
    assert [order.signal for order in lines.orders(SignalAttempt)] == [SIGUSR1]
    assert refusal(driver, SignalTasks(tasks=("a", "b"), signal=SIGUSR1)) == "b does not run: it is waiting"
    step = Driver.joined(a_plan(msgspec.structs.replace(a_task("s"), launch_kind="step")))
    assert "is starting" in refusal(step, SignalTasks(tasks=("s",), signal=SIGHUP))
    step.start("s")
    assert "srun passes on SIGUSR1 and SIGUSR2" in refusal(step, SignalTasks(tasks=("s",), signal=SIGHUP))


def test_nothing_starts_in_a_paused_run() -> None:
    driver = Driver.joined(a_plan(a_task("a", retries=1, interval_s=0.0), a_task("b"), a_task("c", "b")))
    driver.start("a", "b")
    lines = ask(driver, Pause())
    assert answer(lines).text == "the run is paused: nothing new starts; 2 live, 1 not started"
    assert "paused already" in answer(ask(driver, Pause())).text
    driver.end("a", 1)
    driver.wake()
    driver.end("b")
    assert driver.states("a", "b", "c") == ["queued", "completed", "queued"]
    assert answer(ask(driver, Unpause())).text == "tasks start again"
    assert driver.states("a", "c") == ["starting", "starting"]
    assert answer(ask(driver, Unpause())).text == "the run was not paused"


def test_the_end_of_a_run_is_not_paused() -> None:
    final = a_task("f", finally_when="after_stop")
    driver = Driver.joined(a_plan(a_task("a"), final))
    driver.start("a")
    assert "paused" in answer(ask(driver, Pause())).text
    driver.end("a")
    assert driver.state("f") == "starting"
    assert refusal(driver, Unpause()).startswith("the run is ending")


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_completed_tasks_that_start_again_together_keep_their_order(order: tuple[str, ...]) -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b", "a"), a_task("rest")))
    driver.start("a", "rest")
    driver.end("a", 0)
    driver.start("b")
    driver.end("b", 0)
    restart(driver, *order)
    assert (driver.state("a"), driver.state("b")) == ("starting", "waiting")
    driver.start("a")
    driver.end("a", 0)
    assert driver.state("b") == "starting"


# ------------------------------------------------------------------ places that are kept for the next attempt


def test_a_task_that_waits_for_a_restarted_one_does_not_keep_the_last_place_from_it() -> None:
    """Each would wait for the other: one for the other's end, that one for room."""
    driver = Driver.joined(a_plan(a_task("a"), a_task("b", "a"), max_running=1))
    driver.start("a")
    driver.end("a")
    driver.start("b")
    assert restart(driver, "a", "b") == [
        "a starts again; it was completed",
        "b is being stopped, and starts again",
    ]
    driver.end("b", signal=15)
    driver.wake()
    assert driver.states("a", "b") == ["starting", "waiting"]


LATER = Restart(count=2, backoff_s=5.0)


def test_a_task_that_keeps_its_place_during_a_delay_gives_it_up_for_what_it_needs() -> None:
    driver = Driver.joined(a_plan(a_task("a"), a_task("b", "a", service=True, restart=LATER), max_running=1))
    driver.start("a")
    driver.end("a")
    driver.start("b")
    driver.end("b", 1)
    assert driver.task("b").is_reserved
    assert restart(driver, "a") == ["a starts again; it was completed"]
    assert driver.states("a", "b") == ["starting", "waiting"]
    driver.start("a")
    driver.end("a")
    driver.wake()
    assert driver.state("b") == "starting"


def test_a_place_is_kept_while_the_task_that_is_waited_for_has_one() -> None:
    srv = a_task("srv", service=True, restart=msgspec.structs.replace(LATER, restarts_dependents=True))
    driver = Driver.joined(a_plan(srv, a_task("cli", "srv"), max_running=2))
    driver.serve("srv")
    driver.start("cli")
    driver.end("srv", 1)
    driver.end("cli", signal=15)
    assert driver.task("srv").is_reserved
    assert driver.task("cli").is_reserved


def test_a_chain_of_tasks_that_wait_gives_up_all_of_its_places() -> None:
    services = [a_task(name, after, service=True, restart=LATER) for name, after in (("b", "a"), ("c", "b"))]
    driver = Driver.joined(a_plan(a_task("a"), a_task("rest"), *services, max_running=3))
    driver.start("a", "rest")
    driver.end("a")
    driver.serve("b")
    driver.serve("c")
    driver.end("c", 1)
    driver.wake()  # its server has not failed in this moment
    driver.end("b", 1)
    assert [driver.task(name).is_reserved for name in ("b", "c")] == [True, True]
    assert restart(driver, "a") == ["a starts again; it was completed"]
    assert driver.states("a", "b", "c") == ["starting", "waiting", "waiting"]
    assert [driver.task(name).is_reserved for name in ("b", "c")] == [False, False]
