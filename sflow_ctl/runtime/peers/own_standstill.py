"""Speaks for the controller's loop while that stands still: to its agents, and to people. Used by `controller.py`.

What it says goes to the console alone: `sflow.log` is in the directory that may be what does not answer. The loop adds a
line there when it moves again.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from protocol.machine.loop_watch import LoopWatch, SpeakerThread, Standstill
from sflow_ctl.core.events import Suspended
from sflow_ctl.runtime.fleet.fleet import AgentLauncher
from sflow_ctl.runtime.fleet.link import FleetLink, refuse_all
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.peers.blocked_end import BlockedEnd
from sflow_ctl.runtime.run.signals import SignalInbox

SPEAKS_EVERY_S = 1.0
SAID_AFTER_S = 5.0
"""Then again after twice the time each."""


class OwnStandstill:
    """The controller's standstill: a thread tells agents that it lives, and people why nothing happens."""

    def __init__(
        self,
        directory: Path,
        tell_agents: Callable[[float, Standstill], None],
        say: Callable[[str], None],
        warn: Callable[[str], None],
        blocked_end: BlockedEnd,
    ) -> None:
        """`say` shows a line at once, and is called from the thread, as `blocked_end` is; `warn` is called in the loop."""
        self._blocked_end = blocked_end
        self._is_over = False
        self.watch = LoopWatch()
        self._directory = str(directory)
        self._tell_agents = tell_agents
        self._say, self._warn = say, warn
        self._say_after_s = SAID_AFTER_S
        self._longest: Standstill | None = None
        self._thread = SpeakerThread(self.watch, SPEAKS_EVERY_S, self._speak)

    def __enter__(self) -> None:
        """Begin to watch the loop."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """Expect no events any longer: the loop is over."""
        self._is_over = True

    def end(self) -> None:
        """Watch no longer."""
        self._thread.end()

    def wait(self, wait: Callable[[int], bool], timeout_ms: int) -> bool:
        """Have the loop wait for events by `wait`; all that it does else is work, which may be held up."""
        self.watch.waits()
        has_any = wait(timeout_ms)
        self.watch.works(time.monotonic())
        self._report_end()
        return has_any

    def suspensions(self, now: float) -> list[Suspended]:
        """Return for how long the process did not run since the last call, if it did not."""
        if not self._thread.has_gap(now):
            return []
        seconds = self._thread.take_gap(time.monotonic())  # the thread may have looked since
        return [Suspended(seconds=round(seconds, 3))] if seconds else []

    def _report_end(self) -> None:
        """Say that a standstill of which people have heard is over."""
        longest = self._longest
        if longest is not None:
            self._longest, self._say_after_s = None, SAID_AFTER_S
            self._warn(
                f"the controller moves again; it had stood still for {longest.seconds:.0f} s in {longest.doing}"
            )

    def _speak(self, now: float, standstill: Standstill) -> None:
        if self._is_over:
            self._blocked_end.look_after_loop(now, standstill, what_stands_still(standstill, self._directory))
            return
        self._blocked_end.look(now, standstill, what_stands_still(standstill, self._directory))
        self._tell_agents(now, standstill)
        if self._longest is not None:
            self._longest = standstill
        if standstill.seconds >= self._say_after_s:
            self._say_after_s *= 2
            self._longest = standstill
            self._say(f"warning: {standstill_text(standstill, self._directory)}")


def standstill_of(
    directory: Path,
    inbox: SignalInbox,
    link: FleetLink,
    launcher: AgentLauncher,
    output: OutputService,
    warn: Callable[[str], None],
) -> OwnStandstill:
    """Return the watch of a controller with these parts."""
    blocked_end = BlockedEnd(
        str(directory),
        inbox,
        partial(refuse_all, link),
        lambda: [one.pid for one, _ in launcher.kept()],
        output.say_at_once,
    )
    return OwnStandstill(directory, link.speak_for_loop, output.say_at_once, warn, blocked_end)


def standstill_text(standstill: Standstill, directory: str) -> str:
    """Return the sentence for people about a controller that stands still now."""
    return f"{what_stands_still(standstill, directory)}: waiting"


def what_stands_still(standstill: Standstill, directory: str) -> str:
    """Return what a controller waits for, and for how long it has."""
    seconds, doing = standstill
    if directory in doing:  # as the run names its files, relative or not
        return f"the run directory has not answered for {seconds:.0f} s ({doing})"
    return f"the controller has stood still for {seconds:.0f} s in {doing}"
