"""The agent's core does each upload once, answers a repeated order with the same result, and ends uploads with stops."""

import pytest

from protocol.messages.facts import Goodbye, Uploaded, Uploading
from protocol.messages.orders import Leave, UploadFiles
from protocol.messages.uploads import FileUpload, UploadOutcome
from sflow_agent.core.commands import BeginUpload, EndUpload, FinishLogs, Report
from sflow_agent.core.events import LogsDelivered, Ordered, UploadEnded, UploadProgressed
from sflow_agent.core.uploads import KEPT_RESULTS
from tests.unit.agent.driver import A, B, CheckedCore, stop

ORDER = UploadFiles(
    attempt=A.attempt, directory="/run/a", files=(FileUpload(target="res", pattern="x"),), targets=()
)
OUTCOME = UploadOutcome(count=1, bytes=3)
ENDED = UploadEnded(A.attempt, OUTCOME)
ANSWER = Report(Uploaded(attempt=A.attempt, outcome=OUTCOME))


def test_an_order_is_carried_out_once_and_answered_as_often_as_it_comes() -> None:
    core = CheckedCore()
    assert core.handle(Ordered(ORDER), 0.0) == [BeginUpload(ORDER)]
    assert core.handle(Ordered(ORDER), 1.0) == []
    assert core.handle(UploadProgressed(A.attempt, "1 of 2"), 2.0) == [
        Report(Uploading(attempt=A.attempt, text="1 of 2"))
    ]
    assert core.handle(ENDED, 3.0) == [ANSWER]
    assert core.handle(Ordered(ORDER), 4.0) == [ANSWER]
    assert core.handle(ENDED, 5.0) == []
    assert core.handle(UploadProgressed(A.attempt, "late"), 6.0) == []


@pytest.mark.parametrize("is_forced", [False, True])
def test_a_stop_ends_the_upload_of_its_attempt_only(is_forced: bool) -> None:
    core = CheckedCore()
    core.handle(Ordered(ORDER), 0.0)
    assert core.handle(stop(5.0, B), 1.0) == []
    assert core.handle(stop(5.0, A, is_forced=is_forced), 1.0) == [EndUpload(A.attempt, is_forced)]
    assert core.handle(ENDED, 2.0) == [ANSWER]
    assert core.handle(stop(5.0, A), 3.0) == []


def test_an_agent_leaves_after_its_uploads_have_ended() -> None:
    core = CheckedCore()
    core.handle(Ordered(ORDER), 0.0)
    assert core.handle(Ordered(Leave(grace_s=5.0)), 1.0) == [EndUpload(A.attempt, is_forced=False)]
    assert core.handle(ENDED, 2.0) == [ANSWER, FinishLogs()]
    assert core.handle(Ordered(ORDER), 2.0) == [ANSWER]
    other = UploadFiles(attempt=B.attempt, directory="/run/b", files=(), targets=())
    assert core.handle(Ordered(other), 2.0) == [], "none is begun any more"
    assert Report(Goodbye()) in core.handle(LogsDelivered(), 3.0)


def test_a_leave_without_grace_kills_uploads() -> None:
    core = CheckedCore()
    core.handle(Ordered(ORDER), 0.0)
    assert core.handle(Ordered(Leave()), 1.0) == [EndUpload(A.attempt, is_forced=True)]


def test_old_results_are_forgotten_first() -> None:
    core = CheckedCore()
    for number in range(KEPT_RESULTS + 1):
        attempt = A.attempt._replace(number=number + 1)
        order = UploadFiles(attempt=attempt, directory="/", files=(), targets=())
        assert len(core.handle(Ordered(order), 0.0)) == 1
        core.handle(UploadEnded(attempt, OUTCOME), 0.0)
    newest = A.attempt._replace(number=2)
    assert (
        len(core.handle(Ordered(UploadFiles(attempt=newest, directory="/", files=(), targets=())), 0.0)) == 1
    )
