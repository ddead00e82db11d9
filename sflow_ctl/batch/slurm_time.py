"""Time limits as Slurm reads them. Source: sbatch(1), --time."""

import math
import re
from typing import Any

from sflow_ctl.planner.numbers import NumberError, as_seconds

_SLURM = re.compile(r"\d+(?::\d+){0,2}|\d+-\d+(?::\d+){0,2}|unlimited|infinite", re.IGNORECASE | re.ASCII)
_WITH_UNITS = re.compile(r"[\d.\s]+[a-z].*")


def slurm_time(value: Any) -> str:
    """A time limit: a number is minutes, Slurm's own forms stay as they are, `90m` and the like are converted.

    Raises: NumberError.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    if not isinstance(value, bool) and _SLURM.fullmatch(text):
        return text
    if not _WITH_UNITS.fullmatch(text):
        raise NumberError(
            f"must be a time limit: minutes, 01:30:00, 1-12:00:00, or a duration such as 90m, is {value!r}"
        )
    return _clock(math.ceil(as_seconds(text)))


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
