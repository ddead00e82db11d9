"""Sentences about operators' requests, revisions of a live run, and what attempts continue from."""

import signal

import pytest

from protocol.messages.handover import CheckpointChoice
from sflow_ctl.core.commands import AnswerRequest
from sflow_ctl.core.requests import (
    AnyAction,
    Apply,
    Effect,
    Pause,
    RequestAnswer,
    RestartTasks,
    SignalTasks,
    StopRun,
    StopTasks,
    Unpause,
)
from sflow_ctl.plan.revisions.comparing import PlanChange
from sflow_ctl.report.checkpoint_text import choice_lines, choice_text, continues_text
from sflow_ctl.report.request_text import action_text, request_text
from sflow_ctl.report.revision_text import change_lines


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (StopRun(), "stop the run"),
        (StopRun(is_killed=True), "kill the run"),
        (StopTasks(tasks=("a", "b")), "stop a, b"),
        (StopTasks(tasks=("a",), is_killed=True), "kill a"),
        (RestartTasks(tasks=("a",)), "restart a"),
        (SignalTasks(tasks=("a",), signal=signal.SIGUSR1), "send SIGUSR1 to a"),
        (Pause(), "pause the run"),
        (Unpause(), "unpause the run"),
        (Apply(source="2-0", base=1), "apply revision 2"),
    ],
)
def test_an_action_is_the_end_of_a_sentence(action: AnyAction, text: str) -> None:
    assert action_text(action) == text


def test_a_request_says_what_it_has_led_to() -> None:
    effects = (
        Effect(task="a", text="is being stopped"),
        Effect(task="b", text="has ended", is_changed=False),
    )
    asked = AnswerRequest(
        id="1", by="alice", action=StopTasks(tasks=("a", "b")), answer=RequestAnswer(effects=effects)
    )
    assert request_text(asked) == "alice asks to stop a, b: a is being stopped; b has ended"
    refused = AnswerRequest(id="2", by="bob", action=Pause(), answer=RequestAnswer(error="it is ending"))
    assert request_text(refused) == "bob asks to pause the run: refused, it is ending"
    answer = RequestAnswer(text="revision 2 applied: changed a", effects=effects)
    applied = AnswerRequest(id="3", by="eve", action=Apply(source="2-0", base=1), answer=answer)
    assert request_text(applied) == "eve asks to apply revision 2: revision 2 applied: changed a"


def test_each_kind_of_change_has_a_line() -> None:
    changes = [
        PlanChange("bench", "changed", ("its script changed", "its environment variable A is new")),
        PlanChange("report", "dependent", needs="bench"),
        PlanChange("eval", "new"),
        PlanChange("warmup", "removed"),
        PlanChange("server", "updated", ("its retries changed",)),
        PlanChange("db", "unchanged"),
    ]
    by_name = {change.task: change for change in changes}
    assert list(change_lines(by_name, ["variables"], ["monitors"])) == [
        "  ~ bench   starts again: its script changed; its environment variable A is new",
        "  ~ report  starts again: it needs bench",
        "  + eval    is new",
        "  - warmup  is stopped, and is not a part of the run any more",
        "  * server  continues with other rules: its retries changed",
        "  * the run: variables changed",
        "  ! monitors changed in the file, and stay as they are until the run is resumed",
        "  = 1 task continues as before: db",
    ]
    assert list(change_lines({}, [], [])) == []


def test_an_attempt_says_what_it_continues_from() -> None:
    found = CheckpointChoice(
        rule="step",
        why="the highest step",
        path="/c/step-30",
        step=30,
        others=("step-10", "step-20"),
        other_count=7,
        notes=("step-40 has no done marker",),
    )
    assert list(choice_lines("train", [(2, found)])) == [
        "train#2 continues from /c/step-30 (step 30): the highest step",
        "  7 others there: step-10, step-20 and 5 more",
        "  step-40 has no done marker",
    ]
    epoch = CheckpointChoice(rule="epoch", why="the highest epoch", path="/c/epoch-3", step=3)
    assert choice_text("train", 3, epoch) == "train#3 continues from /c/epoch-3 (epoch 3): the highest epoch"
    assert list(choice_lines("train", [(3, epoch)])) == [choice_text("train", 3, epoch)]
    anew = CheckpointChoice(rule="none", why="there is no checkpoint")
    assert continues_text(anew) == "begins anew: there is no checkpoint"
    unclear = CheckpointChoice(
        rule="ambiguous", why="", problem="two files have step 3", others=("a", "b"), other_count=2
    )
    assert list(choice_lines("t", [(2, unclear)])) == ["t#2 does not start: two files have step 3"]
