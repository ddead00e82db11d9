"""What an operator may ask of a live run, what the run answers, and the scheduler's memory of both. Pure.

Requests come as `OperatorRequest` events and are carried out by `actions.requested`; they travel in `runtime/operating`.
"""

from collections.abc import Callable
from typing import NoReturn

from msgspec import Struct, field

from sflow_ctl.plan.model import Plan

MAX_REMEMBERED = 10_000
"""Answers that are kept: programs repeat a request for half a minute at most."""


class Action(Struct, frozen=True, kw_only=True, tag_field="action"):
    """Base of what may be asked for."""


class StopRun(Action, frozen=True, kw_only=True, tag="stop_run"):
    """Stop the run in order, as Ctrl-C does."""

    is_killed: bool = False
    """Kill at once, as the second Ctrl-C does."""


class StopTasks(Action, frozen=True, kw_only=True, tag="stop"):
    """Stop tasks; they do not start again unless that is asked for."""

    tasks: tuple[str, ...]
    """Concrete tasks."""
    is_killed: bool = False
    """Without their grace."""


class RestartTasks(Action, frozen=True, kw_only=True, tag="restart"):
    """End what runs of these tasks, and start them again; also tasks that have ended."""

    tasks: tuple[str, ...]
    """Concrete tasks."""


class SignalTasks(Action, frozen=True, kw_only=True, tag="signal"):
    """Send a signal to all processes of running tasks."""

    tasks: tuple[str, ...]
    """Concrete tasks."""
    signal: int
    """The number of the signal."""


class Pause(Action, frozen=True, kw_only=True, tag="pause"):
    """Start nothing new, retries and restarts included, until `Unpause`; what runs continues."""


class Unpause(Action, frozen=True, kw_only=True, tag="unpause"):
    """Start tasks again."""


class Apply(Action, frozen=True, kw_only=True, tag="apply"):
    """Continue with another plan: what it changes starts again, what is new starts, and what it does not have is stopped."""

    source: str
    """The name of its files in the run directory, which its digest is a part of."""
    base: int
    """The number of the revision that it was compared with. Another one may have come in between only if that added tasks."""


AnyAction = StopRun | StopTasks | RestartTasks | SignalTasks | Pause | Unpause | Apply
Plans = Callable[[str], Plan]
"""Returns the plan of an `Apply` by its source. The same name always has the same plan."""


def no_plans(source: str) -> NoReturn:
    """Refuse, in a run that no plan can be applied to."""
    raise LookupError(source)


class Effect(Struct, frozen=True, kw_only=True):
    """What a request does to one task."""

    task: str
    """The concrete task."""
    text: str
    """The end of a sentence that begins with the task, as "is being stopped"."""
    is_changed: bool = True
    """False where there was nothing to do."""


class RequestAnswer(Struct, frozen=True, kw_only=True):
    """The run's answer to a request: the effect, or an error."""

    text: str = ""
    """What happens to the run as a whole, as a sentence; for a request about tasks, what holds all of them up, or nothing."""
    effects: tuple[Effect, ...] = ()
    """What happens to tasks, in the order of the request."""
    error: str = ""
    """Why nothing was done; empty if the request was accepted."""
    hint: str = ""
    """What to do about the error."""
    revision: int = 0
    """The number of the plan that the request has put in force; 0 for other requests."""


class RequestBook(Struct):
    """The requests of a run so far, and what they have left."""

    answers: dict[str, RequestAnswer] = field(default_factory=dict)
    """By the id of the request: one that comes again has the same answer, and is not carried out again."""
    is_paused: bool = False
    """Nothing new starts."""
    stopped: set[int] = field(default_factory=set)
    """Tasks that were stopped on request, by index."""
    fresh: list[str] = field(default_factory=list)
    """The requests that were answered since the last checkpoint."""

    def remember(self, request_id: str, answer: RequestAnswer) -> None:
        """Keep an answer, and forget the oldest one if there are too many."""
        self.answers[request_id] = answer
        self.fresh.append(request_id)
        if len(self.answers) > MAX_REMEMBERED:
            del self.answers[next(iter(self.answers))]
