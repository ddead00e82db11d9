"""What a resumed run keeps and what it runs again, in words: for the console before anything starts, and for programs.

Made by `runtime/run/resume.py`; shown by `cli`, written into `summary.json` and the journal. Pure.
"""

from collections.abc import Mapping, Sequence

import msgspec

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


def resumed_summary(
    kept: Sequence[str], again: Mapping[str, str], uploads: Sequence[str] = ()
) -> ResumedSummary:
    """Return the summary of what is kept and what runs again, both in the order of the plan."""
    return ResumedSummary(
        kept=tuple(kept),
        again=tuple(AgainSummary(task=name, reason=reason) for name, reason in again.items()),
        uploads=tuple(uploads),
    )


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
    return lines
