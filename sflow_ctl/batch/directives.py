"""Writes `#SBATCH` lines that hold any value.

Source: sbatch(1), and how sbatch reads a line: white space separates, `"` and `'` quote, a backslash escapes,
also within quotes, and `#` begins a comment.
"""

import re

from protocol.errors import UsageError
from protocol.text.lazy_pattern import lazy_pattern

_PLAIN = lazy_pattern(r"[\w./:,=@%+^~\[\]-]+", re.ASCII)


def directive(option: str, value: str | int) -> str:
    """Return `#SBATCH --option=value`. Raises: UsageError."""
    return f"#SBATCH --{option}={_quoted(checked(str(value), f'--{option}'))}"


def verbatim(arguments: str) -> str:
    """Return `#SBATCH` and the user's text unchanged: it may be several words. Raises: UsageError."""
    return f"#SBATCH {checked(arguments, arguments)}"


def argument(text: str) -> str:
    """Return `#SBATCH` and one word. Raises: UsageError."""
    return f"#SBATCH {_quoted(checked(text, text))}"


def checked(value: str, where: str) -> str:
    """Return the value, if it fits into one line of a script. Raises: UsageError."""
    if value.isprintable():
        return value
    what = f"{value!r} has characters that a line of a batch script cannot hold"
    raise UsageError.of("unsafe-value", what, repr(where), "leave out line breaks and control characters")


def literal_path(path: str) -> str:
    """Return a path with sbatch's patterns such as `%j` escaped."""
    return path.replace("%", "%%")


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
