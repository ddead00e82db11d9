"""Colours: whether a stream gets them, and the only place where they are put around text.

Bytes of tasks keep their own colours; `line_prefix.py` handles those.
"""

import os
import sys
from collections.abc import Mapping
from typing import Literal

Colour = Literal["red", "green", "yellow", "bold", "dim"]
_SGR: dict[Colour, int] = {"red": 31, "green": 32, "yellow": 33, "bold": 1, "dim": 2}


def wants_colours(is_terminal: bool, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal with colours, unless the user wants none (no-color.org)."""
    return is_terminal and not environ.get("NO_COLOR") and environ.get("TERM", "") not in ("", "dumb")


def stdout_wants_colours() -> bool:
    """Return `wants_colours` of this process's standard output."""
    return wants_colours(sys.stdout.isatty(), os.environ)


def wants_unicode(environ: Mapping[str, str]) -> bool:
    """Return whether the locale's character set is UTF-8, by the order of locale(7)."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    return "utf-8" in locale.lower() or "utf8" in locale.lower()


def paint(text: str, colour: Colour | int, is_on: bool = True) -> str:
    """Return the text in a colour, by name or SGR number; unchanged with `is_on` False."""
    number = _SGR[colour] if isinstance(colour, str) else colour
    return f"\x1b[{number}m{text}\x1b[0m" if is_on else text
