"""What the full-screen view can change of a run: the requests of `stop`, `restart` and so on, by the same way."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from protocol.errors import UsageError
from protocol.text.signal_names import signal_number
from sflow_ctl.core.requests import AnyAction, Pause, RestartTasks, SignalTasks, StopRun, StopTasks, Unpause
from sflow_ctl.report.request_text import answer_lines
from sflow_ctl.runtime.operating.client import ask
from sflow_ctl.runtime.record.reader import RunReader

Verb = Literal["stop", "restart", "signal", "pause", "unpause"]


class Steering(Protocol):
    """Changes a run."""

    def act(self, verb: Verb, tasks: tuple[str, ...], argument: str) -> str:
        """Do it and return what was done; no tasks mean the run. Raises: FleetError."""
        ...


class RunSteering:
    """Changes a run by requests to its controller."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the run's."""
        self._directory = directory

    def act(self, verb: Verb, tasks: tuple[str, ...], argument: str) -> str:
        """Do it and return what was done; no tasks mean the run. Raises: FleetError."""
        replied = ask(RunReader(self._directory), _ACTIONS[verb](tasks, argument))
        if replied.answer.error:
            raise UsageError.of("request-refused", replied.answer.error, hint=replied.answer.hint or None)
        return "\n".join(answer_lines(replied.answer)) or f"{verb}: done"


def _stop(tasks: tuple[str, ...], _argument: str) -> AnyAction:
    return StopTasks(tasks=tasks) if tasks else StopRun()


def _signal(tasks: tuple[str, ...], argument: str) -> AnyAction:
    number = signal_number(argument)
    if number is None:
        what = f'there is no signal "{argument}"'
        raise UsageError.of("unknown-signal", what, hint="a name as HUP or SIGUSR1, or a number")
    return SignalTasks(tasks=tasks, signal=number)


_ACTIONS: dict[Verb, Callable[[tuple[str, ...], str], AnyAction]] = {
    "stop": _stop,
    "restart": lambda tasks, _argument: RestartTasks(tasks=tasks),
    "signal": _signal,
    "pause": lambda _tasks, _argument: Pause(),
    "unpause": lambda _tasks, _argument: Unpause(),
}
