"""What is recorded of a controller that was killed and replaced: in the journal, in `summary.json`, and as a sentence. Pure."""

from datetime import datetime

import msgspec

from protocol.text.counted import counted


class Takeover(msgspec.Struct, frozen=True, kw_only=True):
    """A controller that was killed, and the one that took the run over."""

    incarnation: int
    """The number of the controller that took over."""
    signal: str
    """The signal that killed the one before."""
    killed_wall_ns: int
    """When it was killed, in ns since 1970."""
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
    return (
        f"the controller was killed ({takeover.signal}) at {at}; incarnation {takeover.incarnation} took over "
        f"{counted(takeover.tasks, 'task')} in {takeover.took_s:.1f} s{missing}"
    )
