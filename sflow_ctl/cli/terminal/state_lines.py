"""Lines about important changes of state, and the progress line. Pure but for the clock it is given."""

import time
from collections.abc import Callable, Collection

from protocol.text.ansi import printable
from protocol.text.signal_names import signal_name
from sflow_ctl.cli.terminal.paint import Colour, paint
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState, Transition
from sflow_ctl.report.words import MANY_TASKS

_WORTH_A_LINE = frozenset({TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST, TaskState.READY})
_BAD = frozenset({TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST})


def clock(seconds: float) -> str:
    """Return `00:12` or `1:02:03`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


class StateLines:
    """Counts the tasks of a run from its transitions."""

    def __init__(
        self,
        total_tasks: int,
        *,
        is_brief: bool,
        colours: bool = False,
        is_unicode: bool = True,
        elapsed_s: float = 0.0,
        finals: Collection[str] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total_tasks
        self._is_brief = is_brief or total_tasks > MANY_TASKS
        self._colours = colours
        self._dot = " \u00b7 " if is_unicode else " | "
        self.dash = "\u2500\u2500" if is_unicode else "--"
        self._finals = finals
        """Tasks that run at the end: their start is always worth a line."""
        self._now = now
        self._started_at = now() - elapsed_s
        self._states: dict[str, TaskState] = {}
        self._ended = dict.fromkeys(TERMINAL, 0)
        self._live = 0
        self._ready = 0

    def says_start(self, task: str) -> bool:
        """Return True when the start of this task gets a line."""
        return not self._is_brief or task in self._finals

    def add(self, transition: Transition) -> str | None:
        """Count one change; return the line to show for it, or None."""
        if self._states.get(transition.task) is transition.new:
            return None
        self.begin_with(transition.task, transition.new)
        return self._line(transition)

    def begin_with(self, task: str, new: TaskState) -> None:
        """Count a task as being in this state, whatever it was in before."""
        old = self._states.get(task)
        self._states[task] = new
        self._live += (new in LIVE) - (old in LIVE)
        self._ready += (new is TaskState.READY) - (old is TaskState.READY)
        if new in TERMINAL:
            self._ended[new] += 1

    def progress(self, width: int, activity: str = "", running: str = "") -> str:
        """Return `12/40 done · 8 running · 1 failed · 00:12 · waiting for ...`, cut to `width` columns.

        Without an activity that is said, the `running` tasks are named. A narrow terminal gets fewer counts: why something is
        awaited matters more.
        """
        bad = sum(self._ended[state] for state in (TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST))
        done = f"{self._ended[TaskState.COMPLETED]}/{self._total} done"
        failed = [f"{bad} failed"] if bad else []
        parts = [done]
        if self._live - self._ready > 0:
            names = f": {running}" if running and not activity else ""
            parts.append(f"{self._live - self._ready} running{names}")
        if self._ready:
            parts.append(f"{self._ready} ready")
        parts += failed
        stopped = self._ended[TaskState.CANCELLED] + self._ended[TaskState.SKIPPED]
        if stopped:
            parts.append(f"{stopped} cancelled")
        parts.append(clock(self._now() - self._started_at))
        text = self._dot.join([*parts, activity] if activity else parts)
        if activity and len(text) > width:
            text = self._dot.join([done, *failed, activity])
        return self._paint(text if len(text) <= width else f"{text[: width - 3]}..."[:width], "dim")

    def _line(self, transition: Transition) -> str | None:
        is_again, new = transition.is_again, transition.new
        if new is TaskState.RUNNING and transition.task in self._finals:
            return f"{self.dash} running finally: {printable(transition.task)}"
        if not is_again and new not in _WORTH_A_LINE:
            if self._is_brief or new not in (TaskState.RUNNING, TaskState.COMPLETED):
                return None
            if new is TaskState.COMPLETED and transition.reason.word in ("run_complete", "cell_complete"):
                return None
        task = printable(transition.task)
        name = task if transition.attempt <= 1 else f"{task}#{transition.attempt}"
        if is_again:
            word = self._paint(printable(transition.reason.word), "yellow")
            return f"{self.dash} {name} {word}: {printable(transition.reason.text)}"
        return f"{self.dash} {name} {self._word(new)}{printable(_detail(transition))}"

    def _word(self, state: TaskState) -> str:
        match state:
            case TaskState.RUNNING:
                return "started"
            case TaskState.READY | TaskState.COMPLETED:
                return self._paint(state.value, "green")
            case _:
                return self._paint(state.value, "red")

    def _paint(self, text: str, colour: Colour) -> str:
        return paint(text, colour, self._colours)


def _detail(transition: Transition) -> str:
    match transition.new:
        case TaskState.RUNNING:
            return ""
        case TaskState.COMPLETED:
            return "" if transition.runtime_s is None else f" in {transition.runtime_s:.1f} s"
        case _:
            text = transition.reason.text
            if not text and transition.signal is not None:
                text = f"killed by {signal_name(transition.signal)}"
            # A status, a signal and a state explain themselves.
            is_told = transition.reason.word in ("exit", "signal", transition.new.value)
            word = "" if is_told or transition.new not in _BAD else f" ({transition.reason.word})"
            return f"{word}: {text}" if text else word
