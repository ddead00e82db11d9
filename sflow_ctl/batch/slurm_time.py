"""Time limits of Slurm jobs.

Durations are read by the planner's one parser; only a bare number differs: it is minutes.

Source: sbatch(1), --time.
"""

import math
import re
from typing import Any

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.planner.numbers import NumberError, as_seconds, clock_seconds

_MINUTES_OR_NONE = lazy_pattern(r"\d+|unlimited|infinite", re.IGNORECASE | re.ASCII)
_WITH_UNITS = lazy_pattern(r"[\d.\s]+[a-z].*")


def slurm_time(value: Any) -> str:
    """Return a time limit for Slurm: a number is minutes, Slurm's own forms stay as they are, `90m` is converted.

    Raises: NumberError.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    is_slurms = _MINUTES_OR_NONE.fullmatch(text) or clock_seconds(text) is not None
    if not isinstance(value, bool) and is_slurms:
        return text
    if not _WITH_UNITS.fullmatch(text):
        raise NumberError(
            f"must be a time limit: minutes, 01:30:00, 1-12:00:00, or a duration such as 90m, is {value!r}"
        )
    return _clock(math.ceil(as_seconds(text)))


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
