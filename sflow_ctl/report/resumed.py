"""What a controller takes over, in words and for programs: by a resume what is kept and what runs again, else a live run.

And agents that took the place of others. Made by `runtime/run/resume.py`, `runtime/supervision` and `runtime/run/node_book.py`;
shown by `cli`, written into `summary.json` and the journal. Pure.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

import msgspec

from protocol.text.counted import counted
from protocol.text.listing import listed

MAX_SHOWN = 20
"""Tasks that are named on a line, or have a line each; `summary.json` has all of them."""


class AgainSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One task that a resumed run runs again."""

    task: str
    """Its name."""
    reason: str
    """A sentence without its subject, as "its image changed from x:1 to x:2"."""


class ResumedSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a resumed run took over from its earlier controllers."""

    kept: tuple[str, ...]
    """Tasks that are not run again."""
    again: tuple[AgainSummary, ...]
    """Tasks that had started before and run again, each with the reason."""
    uploads: tuple[str, ...] = ()
    """Tasks that are kept and whose files are uploaded now: that was not done, or was done elsewhere."""
    left: tuple[AgainSummary, ...] = ()
    """Tasks without a result that a rerun of chosen tasks does not run, each with the reason."""
    notes: tuple[str, ...] = ()
    """About kept results that are not those of the plan as it is now."""


def resumed_summary(
    kept: Sequence[str],
    again: Mapping[str, str],
    uploads: Sequence[str] = (),
    left: Mapping[str, str] = MappingProxyType({}),
    notes: Sequence[str] = (),
) -> ResumedSummary:
    """Return the summary of what is kept, what runs again and what is left, each in the order of the plan."""
    return ResumedSummary(
        kept=tuple(kept),
        again=_with_reasons(again),
        uploads=tuple(uploads),
        left=_with_reasons(left),
        notes=tuple(notes),
    )


def _with_reasons(tasks: Mapping[str, str]) -> tuple[AgainSummary, ...]:
    return tuple(AgainSummary(task=name, reason=reason) for name, reason in tasks.items())


def resumed_lines(resumed: ResumedSummary) -> list[str]:
    """Return the lines that say what is kept and what runs again and why."""
    lines = []
    if resumed.kept:
        names = ", ".join(resumed.kept[:MAX_SHOWN])
        more = len(resumed.kept) - MAX_SHOWN
        lines.append(f"kept: {names}{f' and {more} more' if more > 0 else ''}")
    if resumed.uploads:
        lines.append(f"files are uploaded now, of: {listed(resumed.uploads, MAX_SHOWN)}")
    lines += [f"{one.task} runs again: {one.reason}" for one in resumed.again[:MAX_SHOWN]]
    more = len(resumed.again) - MAX_SHOWN
    if more > 0:
        lines.append(f"{more} more tasks run again")
    lines += [f"{one.task} is left: {one.reason}" for one in resumed.left[:MAX_SHOWN]]
    if len(resumed.left) > MAX_SHOWN:
        lines.append(f"{len(resumed.left) - MAX_SHOWN} more tasks are left")
    return [*lines, *resumed.notes[:MAX_SHOWN]]


class Takeover(msgspec.Struct, frozen=True, kw_only=True):
    """A controller that was killed, and the one that took the run over."""

    incarnation: int
    """The number of the controller that took over."""
    signal: str
    """The signal that killed the one before; empty if that is not known: its supervisor was gone as well."""
    killed_wall_ns: int
    """When it was killed, in ns since 1970; else when it last wrote into the journal."""
    tasks: int
    """How many tasks were live."""
    took_s: float
    """Seconds from then until all agents that were connected had reported to the new controller."""
    missing: tuple[str, ...] = ()
    """Nodes that had not reported when this was recorded."""


def takeover_text(takeover: Takeover) -> str:
    """Return the sentence for it, with the local time."""
    at = datetime.fromtimestamp(takeover.killed_wall_ns / 1e9).astimezone().strftime("%H:%M:%S")
    missing = f", without {', '.join(takeover.missing)}" if takeover.missing else ""
    what = f"was killed ({takeover.signal}) at {at}" if takeover.signal else f"was gone since {at}"
    return (
        f"the controller {what}; incarnation {takeover.incarnation} took over "
        f"{counted(takeover.tasks, 'task')} in {takeover.took_s:.1f} s{missing}"
    )


class AgentRestart(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that was killed, and the one that was started in its place."""

    node: str
    """The name of the node."""
    ended: str
    """How the one before ended, as "was killed by SIGKILL"."""
    started_wall_ns: int
    """When the next one was started, by the node's clock, in ns since 1970."""


def agent_restart_text(restart: AgentRestart) -> str:
    """Return the sentence for it, with the local time."""
    at = datetime.fromtimestamp(restart.started_wall_ns / 1e9).astimezone().strftime("%H:%M:%S")
    return f"node {restart.node}: its agent {restart.ended}, and was started again at {at}"
