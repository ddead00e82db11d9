"""A terminal whose character set is not UTF-8: what textual draws with lines and blocks is sent as ASCII of the same width.

Where that is so is decided as for the console, by `terminal.paint.wants_unicode`.
"""

import unicodedata

from textual.drivers.linux_driver import LinuxDriver

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.cli.terminal.drawn_characters import LETTER_OF

_FOREIGN = lazy_pattern(r"[^\x00-\x7f]")


def ascii_text(text: str) -> str:
    """Return a text with a letter of ASCII for each cell of other characters; `?` for what looks like none."""
    return str(_FOREIGN.sub(lambda found: LETTER_OF.get(found[0]) or "?" * _cells(found[0]), text))


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class AsciiDriver(LinuxDriver):
    """Sends ASCII."""

    def write(self, data: str) -> None:
        """Send what is to be drawn."""
        super().write(data if data.isascii() else ascii_text(data))
