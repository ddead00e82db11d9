"""When a line of a log was printed, as far as the line itself says so. Pure.

A log is what a program prints, and nothing records when each line came. Many programs begin their lines with a time: that of
Python's logging, ISO 8601, vLLM's and SGLang's, glog's. Such a time counts only if it is within the attempt that printed it,
so that a date in a message is not taken for one.
"""

from datetime import datetime

from msgspec import Struct

from protocol.text.lazy_pattern import lazy_pattern

SKEW_NS = 120 * 1_000_000_000
"""How far a node's clock may be from the controller's."""
WITHIN_BYTES = 100
"""A time is looked for in the beginning of a line only."""
_ISO = lazy_pattern(
    rb"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?"
)
_SHORT = lazy_pattern(
    rb"(?:^|[\s\[])[IWEF]?(?:[A-Z]+ )?(\d\d)-?(\d\d) (\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
)
"""Month, day and time without a year: `INFO 11-29 21:18:45`, `I1129 21:18:45.123456`."""


class AttemptTimes(Struct, frozen=True):
    """Within which times an attempt has printed its lines, in ns since 1970."""

    started_ns: int
    ended_ns: int
    """Now, for one that runs."""

    def time_of(self, line: bytes) -> int | None:
        """Return the time that a line begins with; None if it has none that fits."""
        head = line[:WITHIN_BYTES]
        if b":" not in head:
            return None
        found = _full(head) or self._short(head)
        if found is None or not self.started_ns - SKEW_NS <= found <= self.ended_ns + SKEW_NS:
            return None
        return found

    def _short(self, head: bytes) -> int | None:
        match = _SHORT.search(head)
        if match is None:
            return None
        year = datetime.fromtimestamp(self.started_ns / 1e9).astimezone().year
        for one in (year, year + 1):  # a run that began before midnight on New Year's Eve
            found = _wall_ns((one, *map(int, match.groups()[:5])), match[6], None)
            if found is not None and self.started_ns - SKEW_NS <= found:
                return found
        return None


def _full(head: bytes) -> int | None:
    match = _ISO.search(head)
    return None if match is None else _wall_ns(tuple(map(int, match.groups()[:6])), match[7], match[8])


def _wall_ns(parts: tuple[int, ...], fraction: bytes | None, zone: bytes | None) -> int | None:
    """Return the time in ns since 1970; one without a zone is this machine's local time. None if there is no such time."""
    try:
        moment = datetime(*parts)  # type: ignore[arg-type]
        if zone is None:
            moment = moment.astimezone()
        else:
            moment = datetime.fromisoformat(f"{moment.isoformat()}{zone.decode().replace('Z', '+00:00')}")
        seconds = int(moment.timestamp())
    except (ValueError, OverflowError):
        return None
    return seconds * 1_000_000_000 + int((fraction or b"0").ljust(9, b"0"))
