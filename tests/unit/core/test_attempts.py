"""The effect of ranks' ends on their attempt: the cause, its words, and whether it is retried."""

import msgspec
import pytest

from protocol.messages.facts import ExitCause, LaunchFailed, RankCleared, RankExited
from protocol.messages.rank_spec import Success
from sflow_ctl.core.commands import Warn
from sflow_ctl.core.events import AgentLost, MessageReceived
from sflow_ctl.core.model.rank_specs import success_of_rank
from sflow_ctl.core.states import Outcome, TaskState, Transition
from sflow_ctl.plan.model import Placement, PlannedTask
from sflow_ctl.plan.parts.again import Retries
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, goodbye, hello, rank, ready, started

KEY_ERROR = ExitCause(
    word="traceback", text="KeyError: 3", hint="h", line="KeyError: 3", line_number=7, offset=90
)
NCCL = ExitCause(word="nccl", text="timed out", line="Watchdog ...")


def ended(
    number: int = 0,
    code: int | None = 1,
    cause: ExitCause | None = None,
    at_ns: int = 0,
    *,
    node: int = 0,
    signal: int | None = None,
    was_asked: bool = False,
    attempt: int = 1,
) -> MessageReceived:
    message = RankExited(
        rank=rank("a", attempt, number),
        exit_code=None if signal is not None else code,
        signal=signal,
        cause=cause,
        runtime_s=at_ns / 1e9,
        was_asked=was_asked,
    )
    return MessageReceived(node=node, message=message)


def gang(*, kill_on_bad_exit: bool = False) -> Driver:
    """Two ranks on two nodes, both started."""
    placement = Placement(nodes=(0, 1))
    task = a_task("a", placement=placement, ranks_per_node=(1, 1), kill_on_bad_exit=kill_on_bad_exit)
    return running(task, nodes=2)


def running(task: PlannedTask, nodes: int = 1) -> Driver:
    drive = Driver.joined(a_plan(task, nodes=nodes))
    for number in range(task.world_size):
        drive(started("a", rank_number=number, node=number if nodes > 1 else 0))
    return drive


def last(drive: Driver, *events: MessageReceived) -> Transition:
    """Return the last change of the task that these make."""
    return drive(*events, now=1.0).transitions()[-1]


def test_a_cause_is_the_reason_with_its_line() -> None:
    change = last(running(a_task("a")), ended(cause=KEY_ERROR))
    assert change.new is TaskState.FAILED
    assert (change.reason.word, change.reason.text) == ("traceback", "KeyError: 3 (exit status 1)")
    assert (change.reason.hint, change.reason.line_number, change.reason.offset) == ("h", 7, 90)
    assert change.reason.rank is None


def test_a_cause_without_a_sentence_leaves_the_usual_one() -> None:
    cause = ExitCause(word="signal", text="", hint="look at dmesg")
    change = last(running(a_task("a")), ended(signal=9, cause=cause))
    assert (change.reason.word, change.reason.text) == ("signal", "killed by SIGKILL")
    assert change.reason.hint == "look at dmesg"


def test_status_0_with_something_missing_is_a_failure() -> None:
    drive = running(a_task("a"))
    cause = ExitCause(word="no_output", text="there is no r.json")
    change = last(drive, ended(code=0, cause=cause))
    assert (change.new, change.reason.word, change.exit_code) == (TaskState.FAILED, "no_output", 0)
    assert drive.run.cause is not None
    assert drive.run.cause.text.startswith("task a did not fulfil its success conditions: there is no r.json")


def test_a_log_that_cannot_be_made_for_want_of_space_is_a_full_disk() -> None:
    for errno, word in ((28, "disk_full"), (122, "disk_full"), (2, "launch")):
        drive = Driver.joined(a_plan(a_task("a")))
        message = LaunchFailed(rank=rank("a"), errno=errno, reason="no")
        assert last(drive, MessageReceived(node=0, message=message)).reason.word == word


# ---------------------------------------------------------------------- gangs


@pytest.mark.parametrize("kill_on_bad_exit", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_the_rank_that_ended_first_is_the_cause_in_any_order_of_reports(
    kill_on_bad_exit: bool, first: int
) -> None:
    drive = gang(kill_on_bad_exit=kill_on_bad_exit)
    events = [
        ended(1, 1, KEY_ERROR, at_ns=1000, node=1),
        ended(0, None, NCCL, at_ns=2000, node=0, signal=6),
    ]
    change = last(drive, events[first], events[1 - first])
    assert (change.reason.word, change.reason.rank) == ("traceback", 1)
    assert change.reason.text == "rank 1: KeyError: 3 (exit status 1)"
    assert (change.exit_code, change.signal) == (1, None)
    assert drive.run.cause is not None
    assert drive.run.cause.node == 1


def test_a_rank_that_was_ordered_to_end_is_not_the_cause_whatever_its_clock() -> None:
    drive = gang(kill_on_bad_exit=True)
    drive(ended(1, 1, KEY_ERROR, at_ns=5000, node=1), now=1.0)
    change = last(drive, ended(0, None, at_ns=100, signal=15, was_asked=True))
    assert (change.reason.word, change.reason.rank) == ("traceback", 1)


def test_without_clocks_a_signal_counts_before_a_status() -> None:
    change = last(gang(), ended(0, 7), ended(1, signal=9, node=1))
    assert (change.reason.text, change.signal) == ("rank 1: killed by SIGKILL", 9)
    change = last(gang(), ended(0, 7), ended(1, 3, node=1))
    assert (change.reason.text, change.exit_code) == ("rank 0: exit status 7", 7)


def test_only_the_first_rank_must_have_written_something() -> None:
    success = Success(require=("x",), forbid=("y",))
    assert success_of_rank(success, 0) == success
    assert success_of_rank(success, 3) == Success(forbid=("y",))
    assert success_of_rank(Success(require=("x",)), 1) is None
    assert success_of_rank(None, 0) is None


# ---------------------------------------------------------------------- retries


def retrying(*reasons: str, service: bool = False) -> Driver:
    retries = Retries(count=2, interval_s=1.0, reasons=reasons or None)
    return running(msgspec.structs.replace(a_task("a", service=service), retries=retries))


def test_retries_may_be_for_some_reasons_only() -> None:
    change = last(retrying("nccl"), ended(cause=NCCL))
    assert (change.new, change.reason.word, change.reason.after) == (TaskState.WAITING, "retry", "nccl")
    assert change.reason.line == "Watchdog ..."
    assert last(retrying("nccl"), ended(cause=KEY_ERROR)).new is TaskState.FAILED
    assert last(retrying("nccl"), ended()).new is TaskState.FAILED
    assert last(retrying("exit", "nccl"), ended()).new is TaskState.WAITING
    assert last(retrying(), ended(cause=KEY_ERROR)).new is TaskState.WAITING


def test_a_failure_probe_is_retried_only_by_name() -> None:
    for reasons, state in (((), TaskState.FAILED), (("probe",), TaskState.WAITING)):
        drive = retrying(*reasons)
        drive(ready("a", kind="failure"), now=1.0)
        assert last(drive, ended(signal=15, was_asked=True)).new is state


def test_a_run_ends_although_its_reason_would_be_retried() -> None:
    drive = retrying("nccl")
    for attempt in (1, 2):
        drive(ended(cause=NCCL, attempt=attempt))
        drive.wake()
        drive.start("a")
    drive(ended(cause=NCCL, attempt=3))
    assert drive.state("a") is TaskState.FAILED
    assert drive.leave().outcome is Outcome.FAILED


# ---------------------------------------------------------------------- ports of its own


def test_the_owner_of_a_tasks_port_is_in_the_reason() -> None:
    taken = ExitCause(word="port_in_use", text="port 80 was in use by nobody", hint="h")
    for cause, text in (
        (taken, "port 80 (http) is taken by process 7 (exit status 1)"),
        (KEY_ERROR, "KeyError: 3 (exit status 1); port 80 (http) is taken by process 7"),
        (None, "exit status 1; port 80 (http) is taken by process 7"),
    ):
        drive = running(a_task("a"))
        message = RankExited(
            rank=rank("a"), exit_code=1, cause=cause, port_conflict="port 80 (http) is taken by process 7"
        )
        change = last(drive, MessageReceived(node=0, message=message))
        assert (change.reason.after, change.reason.text.partition("; again")[0]) == ("port_in_use", text)


def test_what_a_completed_task_leaves_is_named_once_for_all_of_its_replicas() -> None:
    tasks = [a_task(name, base="t") for name in ("t_0", "t_1")]
    run = Driver.joined(a_plan(*tasks, a_task("failed", on_failure="continue")))
    run.start("t_0", "t_1", "failed")
    for name, code in (("failed", 1), ("t_0", 0), ("t_1", 0)):
        run(exited(name, code, cleared=False))
        fact = RankCleared(rank=rank(name), ended=4, left=("7 sleep", "8 python"))
        said = [one.text for one in run(MessageReceived(node=0, message=fact)).of(Warn)]
        assert said == (
            [
                "t_0 has ended with its first process; stopped then: 7 sleep, 8 python and 2 more "
                "(to keep the task running until they end, let its script `wait` for them)"
            ]
            if name == "t_0"
            else []
        )


def test_a_task_whose_server_is_gone_for_ever_does_not_wait_for_another_attempt() -> None:
    """Found by the simulated fleet: the run never ended."""
    server = a_task("server", service=True, on_failure="continue")
    client = a_task("client", "server", retries=3)
    drive = Driver(a_plan(server, client))
    drive(hello())
    drive(started("server"))
    drive(ready("server"))
    drive(started("client"))
    drive(exited("server", code=1))
    lines = drive(exited("client", code=1))
    assert lines[0] == "client#1 running->failed exit"
    reason = drive.run.task_named("client").last_reason
    assert reason is not None
    assert reason.text == "exit status 1; it needs server, which is failed"
    assert drive(goodbye()) == ["finish failed"]


def test_what_needs_a_task_that_can_never_start_is_skipped_at_once() -> None:
    """Found by the simulated fleet: nothing else happened, and the run never ended."""
    first, far = a_task("a"), a_task("b", "a", placement=Placement(nodes=(1,)), on_failure="isolate")
    drive = Driver.joined(a_plan(first, far, a_task("c", "b"), nodes=2), 0, 1)
    drive(started("a"))
    assert drive(AgentLost(node=1, reason="killed")) == ["1: abandon"]
    lines = drive(exited("a"))
    assert lines[-2:] == ["c#0 waiting->skipped upstream", "0: leave 5"]
    assert drive(goodbye()) == ["finish failed"]
