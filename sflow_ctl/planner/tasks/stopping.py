"""Plans how tasks are stopped, and after what inactivity: commands, signals and times of the file resolved."""

from collections.abc import Callable
from typing import Any

from protocol.messages.rank_spec import HangPolicy, SideCommand, Stopping
from protocol.text.signal_names import SIGNAL_NAMES, signal_number
from sflow_ctl.format import schema
from sflow_ctl.format.checking import nearest
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import NumberError, as_seconds

COMMAND_TIMEOUT_S = 10.0
"""The limit for a stop command and the stop that it begins. Source: process-compose's default, and docker
stop's.
"""
Path = tuple[str | int, ...]


def workflow_stopping(workflow: schema.Workflow, value: Callable[[Any], Any]) -> Stopping:
    """Return the defaults for tasks without stop fields. Raises: UnplannableError."""
    return _merged(workflow.stop, Stopping(), value, "workflow")[0]


def plan_stopping(task: schema.Task, default: Stopping, value: Callable[[Any], Any]) -> Stopping:
    """Return how one task is stopped; fields it leaves out are the workflow's. Raises: UnplannableError."""
    stopping, stop = _merged(task.stop, default, value, f'task "{task.name}"')
    if stop.timeout is not None and stopping.command is None:
        what = f'task "{task.name}" has a timeout for its stop command, but no stop command'
        hint = "`grace` is the time between the signal and SIGKILL"
        raise UnplannableError("conflicting-keys", what, hint, ("stop", "timeout"))
    return stopping


def plan_hang(task: schema.Task, value: Callable[[Any], Any]) -> HangPolicy | None:
    """Return what counts as a hang of one task. Raises: UnplannableError."""
    hang = task.hang
    if hang is None:
        return None
    subject = f'task "{task.name}"'
    if hang.no_gpu_use_for is not None and (task.resources is None or task.resources.gpus is None):
        what = f"{subject} has no GPUs to watch"
        raise UnplannableError(
            "conflicting-keys", what, "add resources.gpus, or drop no_gpu_use_for", ("hang", "no_gpu_use_for")
        )
    command = None
    if hang.command is not None:
        timeout_s = _seconds(value(hang.timeout), subject, ("hang", "timeout"))
        command = SideCommand(
            argv=_argv(value(hang.command), subject, ("hang", "command")), timeout_s=timeout_s
        )
    return HangPolicy(
        no_output_s=_limit(hang.no_output_for, value, subject, "no_output_for"),
        no_gpu_use_s=_limit(hang.no_gpu_use_for, value, subject, "no_gpu_use_for"),
        command=command,
        is_always=hang.when == "always",
    )


def _merged(
    written: schema.Stop | str | None, default: Stopping, value: Callable[[Any], Any], subject: str
) -> tuple[Stopping, schema.Stop]:
    is_short = isinstance(written, str)
    stop = schema.Stop(signal=written) if isinstance(written, str) else written or schema.Stop()
    command = default.command
    if stop.command is not None:
        command = SideCommand(
            argv=_argv(value(stop.command), subject, ("stop", "command")),
            timeout_s=COMMAND_TIMEOUT_S if command is None else command.timeout_s,
        )
    if stop.timeout is not None and command is not None:
        command = SideCommand(
            argv=command.argv, timeout_s=_seconds(value(stop.timeout), subject, ("stop", "timeout"))
        )
    signal = default.signal
    if stop.signal is not None:
        signal = _signal(value(stop.signal), subject, ("stop",) if is_short else ("stop", "signal"))
    grace_s = default.grace_s
    if stop.grace is not None:
        grace_s = _seconds(value(stop.grace), subject, ("stop", "grace"))
    return Stopping(command=command, signal=signal, grace_s=grace_s), stop


def _argv(command: Any, subject: str, path: Path) -> tuple[str, ...]:
    """Return the argv of a command: a list is a program and its arguments, text is a line for bash."""
    argv = tuple(map(str, command)) if isinstance(command, list) else ("bash", "-c", str(command))
    if not argv or not argv[-1 if isinstance(command, str) else 0].strip():
        raise UnplannableError(
            "empty-command", f"{subject}: the command of its {path[0]} is empty", path=path
        )
    return argv


def _signal(written: Any, subject: str, path: Path) -> int:
    number = signal_number(str(written))
    if number is None:
        word = str(written).strip().upper()
        guess = nearest(word if word.startswith("SIG") else f"SIG{word}", SIGNAL_NAMES)
        hint = f'did you mean "{guess}"?' if guess else "e.g. SIGINT, TERM or 15"
        raise UnplannableError("wrong-value", f'{subject}: "{written}" is not a signal', hint, path)
    return number


def _limit(written: Any, value: Callable[[Any], Any], subject: str, name: str) -> float | None:
    if written is None:
        return None
    seconds = _seconds(value(written), subject, ("hang", name))
    if seconds <= 0:
        raise UnplannableError("wrong-value", f"{subject}: {name} must be more than 0 s", path=("hang", name))
    return seconds


def _seconds(written: Any, subject: str, path: Path) -> float:
    try:
        return as_seconds(written)
    except NumberError as error:
        what = f"{subject}: {'.'.join(map(str, path))} {error}"
        raise UnplannableError("wrong-value", what, path=path) from error
