"""Chooses the best of several files by a number that the program has written beside them or in one record. Pure."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from protocol.json_path import json_path, members
from protocol.messages.handover import BestBy
from sflow_agent.checkpoints.choosing import FoundEntry, marker_of
from sflow_agent.checkpoints.steps import NumberIn

Documents = Callable[[str], list[Any]]
"""Returns the JSON documents of a file, by its path in the task's directory; none if it is not there. Raises: ValueError."""


class BestChoice(NamedTuple):
    """The path of the best candidate, and why; no path if no number could be found."""

    path: str
    why: str


def best_by(
    by: BestBy, candidates: Sequence[FoundEntry], number_in: NumberIn, documents: Documents
) -> BestChoice:
    """Return the candidate with the best number. Raises: ValueError for files that are not JSON."""
    scores = dict(
        _own(by, candidates, documents) if "{" in by.path else _recorded(by, candidates, number_in, documents)
    )
    if not scores:
        return BestChoice("", f"no {by.key} of any of them is in {by.path}")
    choose = min if by.mode == "min" else max
    best = choose(scores.values())
    paths = [path for path, score in scores.items() if score == best]
    word = "lowest" if by.mode == "min" else "highest"
    why = f"it has the {word} {by.key}, {best:g}"
    if len(paths) > 1:
        why += f", as {len(paths) - 1} before it"
    return BestChoice(paths[-1], why)


def _own(by: BestBy, candidates: Iterable[FoundEntry], documents: Documents) -> Iterable[tuple[str, float]]:
    """Yield the numbers of candidates that each have a file of their own."""
    steps = json_path(by.key)
    for one in candidates:
        for score in _numbers(documents(marker_of(by.path, one.path)), steps):
            yield one.path, score


def _recorded(
    by: BestBy, candidates: Sequence[FoundEntry], number_in: NumberIn, documents: Documents
) -> Iterable[tuple[str, float]]:
    """Yield the numbers of the candidates whose step has a record."""
    found = documents(by.path)
    records = [one for document in found for one in (document if isinstance(document, list) else [document])]
    steps = json_path(by.key)
    scores: dict[int, float] = {}
    for record in records:
        step = record.get(by.step) if isinstance(record, dict) else None
        if isinstance(step, int) and not isinstance(step, bool):
            scores.update((step, score) for score in _numbers([record], steps))
    for one in candidates:
        number = number_in(one.path)
        if number is not None and number.value in scores:
            yield one.path, scores[number.value]


def _numbers(documents: Iterable[Any], steps: Sequence[str | int]) -> Iterable[float]:
    for document in documents:
        for value in members(document, steps):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and math.isfinite(value):
                yield float(value)
