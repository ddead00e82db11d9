"""Changes a run from the full-screen view, by the requests that the commands make. Called by `cli/tui/start.py`."""

from pathlib import Path

from protocol.errors import UsageError
from protocol.text.signal_names import signal_number
from sflow_ctl.cli.tui.steering import Verb
from sflow_ctl.core.requests import (
    AnyAction,
    Pause,
    RestartTasks,
    SignalTasks,
    StopRun,
    StopTasks,
    Unpause,
)
from sflow_ctl.report.request_text import answer_lines
from sflow_ctl.runtime.operating.client import ask
from sflow_ctl.runtime.record.reader import RunReader


class SteeringByRequest:
    """Asks the controller of one run."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the run's."""
        self._directory = directory

    def act(self, verb: Verb, tasks: tuple[str, ...], argument: str) -> str:
        """Ask for a change and return what follows; no tasks mean the run. Raises: FleetError."""
        reader = RunReader(self._directory)
        answer = ask(reader, _action(reader, verb, tasks, argument)).answer
        if answer.error:
            raise UsageError.of("request-refused", answer.error, hint=answer.hint or None)
        return "\n".join(answer_lines(answer))


def _action(reader: RunReader, verb: Verb, tasks: tuple[str, ...], argument: str) -> AnyAction:
    """Return what a key asks for. Raises: UsageError."""
    if verb == "stop":
        return StopTasks(tasks=tasks) if tasks else StopRun()
    if verb == "restart" and tasks:
        return RestartTasks(tasks=tasks)
    if verb == "signal" and tasks:
        number = signal_number(argument)
        if number is None:
            raise UsageError.of(
                "unknown-signal", f'"{argument}" is not a signal', hint="as USR1, or a number"
            )
        return SignalTasks(tasks=tasks, signal=number)
    if verb == "pause":
        reader.begin_from_snapshot()
        reader.refresh()
        return Unpause() if reader.state.paused_by else Pause()
    raise UsageError.of("cannot-change", f"cannot {verb} {', '.join(tasks) or 'the run'} of a live run")
