"""What operators have asked for, as sentences for the log, the console and `events`. Pure."""

from typing import assert_never

from protocol.text.listing import listed
from protocol.text.signal_names import signal_name
from sflow_ctl.core.commands import AnswerRequest
from sflow_ctl.core.requests import (
    AnyAction,
    Apply,
    Pause,
    RequestAnswer,
    RestartTasks,
    SignalTasks,
    StopRun,
    StopTasks,
    Unpause,
)

SHOWN = 8


def action_text(action: AnyAction) -> str:
    """Return an action as the end of a sentence that says who asks: "stop a, b"."""
    match action:
        case StopRun(is_killed=is_killed):
            return "kill the run" if is_killed else "stop the run"
        case StopTasks(tasks=tasks, is_killed=is_killed):
            return f"{'kill' if is_killed else 'stop'} {listed(tasks, SHOWN)}"
        case RestartTasks(tasks=tasks):
            return f"restart {listed(tasks, SHOWN)}"
        case SignalTasks(tasks=tasks, signal=number):
            return f"send {signal_name(number)} to {listed(tasks, SHOWN)}"
        case Pause():
            return "pause the run"
        case Unpause():
            return "unpause the run"
        case Apply(base=base):
            return f"apply revision {base + 1}"
        case _:
            assert_never(action)


def answer_lines(answer: RequestAnswer) -> list[str]:
    """Return an answer's effects, one sentence each."""
    lines = [answer.text] if answer.text else []
    return lines + [f"{effect.task} {effect.text}" for effect in answer.effects]


def request_text(request: AnswerRequest) -> str:
    """Return a request and what it has led to in one sentence."""
    asked = f"{request.by} asks to {action_text(request.action)}"
    if request.answer.error:
        return f"{asked}: refused, {request.answer.error}"
    if isinstance(request.action, Apply):  # a line for each task says the rest
        return f"{asked}: {request.answer.text}"
    return f"{asked}: {listed(answer_lines(request.answer), SHOWN, '; ')}"
