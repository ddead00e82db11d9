"""All that is known of one task, for the details pane of the full-screen view. Pure.

The caller masks secrets: it does so for everything that it shows.
"""

import shlex
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from protocol.messages.checks import Probe
from sflow_ctl.core.states import Transition
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.report.looking.explanation import Explanation
from sflow_ctl.report.transition_text import transition_text

MAX_EVENTS = 12
MAX_SCRIPT_LINES = 60


class Section(Struct, frozen=True):
    """A heading and its lines."""

    title: str
    lines: tuple[str, ...]


def task_details(
    task: PlannedTask,
    explanation: Explanation,
    history: Sequence[tuple[int, Transition]],
    *,
    probe_text: Callable[[PlannedTask, Probe], str],
    clock_text: Callable[[int], str],
) -> list[Section]:
    """Return what is known of a task; `clock_text` writes a wall time in ns."""
    sections = [
        Section(explanation.headline, tuple(reason.text for reason in explanation.because)),
        Section("Command", tuple(_command(task))),
        Section("Probes", tuple(f"{one.kind}: {probe_text(task, one)}" for one in task.probes)),
        Section("Ports", tuple(_ports(task))),
        Section(
            "Last changes",
            tuple(f"{clock_text(at)}  {transition_text(change)}" for at, change in history[-MAX_EVENTS:]),
        ),
        Section("Environment", tuple(f"{name}={value}" for name, value in sorted(task.environment.items()))),
    ]
    return [section for section in sections if section.lines or section is sections[0]]


def _command(task: PlannedTask) -> Iterator[str]:
    yield f"{task.operator_kind}: {shlex.join(task.argv)}" if task.argv else task.operator_kind
    if task.cwd is not None:
        yield f"in {task.cwd}"
    lines = task.script.splitlines()
    yield from lines[:MAX_SCRIPT_LINES]
    if len(lines) > MAX_SCRIPT_LINES:
        yield f"... and {len(lines) - MAX_SCRIPT_LINES} more lines"


def _ports(task: PlannedTask) -> Iterator[str]:
    for block in task.ports:
        yield f"{block.name}: {block.count} on each of its nodes"
    if task.has_master_port:
        yield "one for the rendezvous of its processes"
