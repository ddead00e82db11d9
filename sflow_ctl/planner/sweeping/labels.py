"""The identity of a cell, and its name for people. Pure.

The identity is a digest of the values alone. So is the name, as far as it can be: a value that is added to an axis renames no
cell. What a name cannot show exactly, because a value has other characters or is long, makes it end in a part of the digest.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.sweep_paths import SweepPath
from sflow_ctl.format.written import json_number, plain
from sflow_ctl.planner.phases.variables import environment_text

ID_LENGTH = 12
"""Hexadecimal digits of an identity: of 100,000 cells two are equal by chance with a probability of 2 in 100,000."""
SHORT = 6
"""Digits of an identity in a name."""
MAX_LABEL = 100
"""The longest name that is not cut; a task's name comes before it."""
_UNSAFE = lazy_pattern(r"[^A-Za-z0-9._+-]+")


def identity(values: Mapping[str, Any]) -> str:
    """Return the digest of a cell's values, by path."""
    text = msgspec.json.encode(plain(dict(values)), order="sorted", enc_hook=str)
    return hashlib.sha256(text).hexdigest()[:ID_LENGTH]


def label(case: str, values: Sequence[tuple[SweepPath, Any]], cell_id: str) -> str:
    """Return the name of a cell: its case, and the keys and values of its axes."""
    pairs = [(_key(path), environment_text(value)) for path, value in values]
    parts = [case] if case else []
    parts += [f"{key}-{_UNSAFE.sub('_', value)}" for key, value in pairs]
    text = "_".join(parts) or "all"
    is_exact = not any(_UNSAFE.search(value) or not value for _, value in pairs)
    if is_exact and len(text) <= MAX_LABEL:
        return text
    return f"{text[: MAX_LABEL - SHORT - 1]}_{cell_id[:SHORT]}"


def _key(path: SweepPath) -> str:
    return path.variable or ".".join(path.parts[1:])


def distinct(labels: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Return the names, those that several cells would have with a part of their identity."""
    counts = Counter(labels)
    return [
        one if counts[one] == 1 else f"{one}_{cell_id[:SHORT]}"
        for one, cell_id in zip(labels, ids, strict=True)
    ]


def values_text(values: Mapping[str, Any]) -> str:
    """Return a cell's values as JSON, numbers as they are written."""
    return msgspec.json.encode(dict(values), enc_hook=json_number).decode()
