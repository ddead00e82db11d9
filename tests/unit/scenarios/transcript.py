"""A scheduler whose events and commands are written down, one a line, with the reasons given to people."""

from typing import Any

from sflow_ctl.core.events import SchedulerEvent
from sflow_ctl.plan.model import Plan
from tests.unit.core.driver import Driver, Lines
from tests.unit.core.lines import event_line, full_line


class Transcript(Driver):
    """A driver that keeps the text of everything. `about` says what happens, above it."""

    def __init__(self, plan: Plan, about: str, **options: Any) -> None:
        super().__init__(plan, **options)
        self._text = [f"# {line}" for line in about.splitlines()]
        self._text += ["", f"{'seconds':>8}  > event   < command", ""]

    def __call__(self, *events: SchedulerEvent, now: float | None = None) -> Lines:
        """Give the scheduler events at one time, each with its own commands."""
        self.now = self.now if now is None else now
        for event in events:
            self._text.append(f"{self.now:8.1f}  > {event_line(event)}")
            commands = self.handle(event, self.now)
            self._text += [f"{'':8}  < {full_line(command)}" for command in commands]
        return Lines([])  # all of them are in the transcript

    def note(self, text: str) -> None:
        """Say what happens next."""
        self._text += ["", f"# {text}"]

    def text(self) -> str:
        """Return all of it."""
        return "\n".join(self._text) + "\n"
