"""Takes the process numbers off the lines of a log that several processes have printed, and joins cut lines. Pure.

`srun --label` and our own merged logs of gangs put a number before each line. Everything that judges lines (probes,
`success`, outputs, the diagnosis of an exit) sees them as the processes printed them. Called by both sides.
"""

import re
from typing import Literal

from protocol.text.lazy_pattern import lazy_pattern

Labels = Literal["none", "srun", "merged"]
"""What has put numbers before the lines of a log: nothing, `srun --label`, or the controller, which merges a gang's logs."""

LABEL = lazy_pattern(rb" *\d+: ")
PIECE_BYTES = 1024
"""`srun --label` prints a longer line in pieces of this size, each as a line of its own with a label. A whole line is
shorter: its newline is among the bytes. Source: measured with Slurm 22.05.8.
"""
MAX_LINE_BYTES = 1024 * 1024
"""A longer line stays cut."""
_LABEL_OPTION = "--label"
_SHORTEST = len("--la")


def has_label_option(argv: tuple[str, ...]) -> bool:
    """Return whether the options of an `srun ... bash -c SCRIPT` ask for labels, in any spelling."""
    options = argv[1:-3]
    return any(one == "-l" or (len(one) >= _SHORTEST and _LABEL_OPTION.startswith(one)) for one in options)


class LabelRemover:
    """Turns the lines of one log into those that its processes printed."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._held: dict[bytes, bytes] = {}
        """By label, the pieces of a line whose rest has not come yet."""

    def line(self, raw: bytes) -> bytes | None:
        """Return a line without its label, or None for a piece whose rest is still to come. `raw` has no line end."""
        match = None if self._labels == "none" else LABEL.match(raw)
        if match is None:
            return raw
        text = raw[match.end() :]
        if self._labels == "merged":
            return text
        whole = self._held.pop(match[0], b"") + text
        if len(text) == PIECE_BYTES and len(whole) < MAX_LINE_BYTES:
            self._held[match[0]] = whole
            return None
        return whole

    def rest(self) -> list[bytes]:
        """Return the lines of which only pieces have come, at the log's end."""
        held, self._held = self._held, {}
        return list(held.values())


def without_labels(data: bytes, labels: Labels) -> bytes:
    """Return lines without their labels; cut lines stay cut, so that lines keep their numbers."""
    if labels == "none":
        return data
    return re.sub(rb"(?m)^" + LABEL.pattern, b"", data)
