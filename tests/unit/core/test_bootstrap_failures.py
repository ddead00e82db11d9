"""A rank whose environment could not be set up: its command never began."""

import msgspec
import pytest

from protocol.messages.facts import ExitCause
from protocol.messages.orders import Stop
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.parts.again import Restart, Retries
from tests.unit.core.plans import a_task
from tests.unit.core.test_attempts import ended, gang, last, retrying, running

FAILED = ExitCause(
    word="bootstrap", text='environment "e" could not be set up: `module load x` failed with status 1'
)


@pytest.mark.parametrize(
    ("reasons", "state"),
    [((), TaskState.FAILED), (("exit",), TaskState.FAILED), (("bootstrap",), TaskState.WAITING)],
)
def test_it_is_retried_only_where_retries_name_it(reasons: tuple[str, ...], state: TaskState) -> None:
    change = last(retrying(*reasons), ended(code=121, cause=FAILED))
    assert change.new is state
    assert "bootstrap" in (change.reason.word, change.reason.after)


def test_a_service_is_not_restarted_for_it() -> None:
    task = msgspec.structs.replace(a_task("a", service=True), restart=Restart(policy="always"))
    assert last(running(task), ended(code=121, cause=FAILED)).new is TaskState.FAILED
    assert last(running(task), ended(code=1)).new is TaskState.WAITING


def test_the_other_ranks_are_stopped_at_once() -> None:
    drive = gang()
    drive(ended(0, code=121, cause=FAILED), now=1.0)
    assert drive.state("a") is TaskState.STOPPING
    assert any(isinstance(order, Stop) for _, order in drive.orders())
    drive(ended(1, signal=15, node=1, was_asked=True), now=2.0)
    assert drive.state("a") is TaskState.FAILED


def test_the_run_says_that_the_task_did_not_begin() -> None:
    drive = running(msgspec.structs.replace(a_task("a"), retries=Retries()))
    drive(ended(code=121, cause=FAILED), now=1.0)
    assert drive.cause().startswith('task a did not begin: environment "e" could not be set up')
