"""Makes cells of CSV files that no spreadsheet executes. Pure.

Used for the results of a run and for the results of a sheet of jobs.
"""

import re

from protocol.text.lazy_pattern import lazy_pattern

_FORMULA = lazy_pattern("[\\s\u200b\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\n]")
"""What begins a formula, in the wide forms that some locales read as well, or hides that one begins."""
_NUMBER = lazy_pattern(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]inf", re.ASCII)


def inert(text: str) -> str:
    """Return a cell that no spreadsheet executes: an apostrophe before what would begin a formula; numbers stay."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
