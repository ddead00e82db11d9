"""Values out of what a task has written: `outputs` by patterns (the `parse` library), JSON paths and CSV columns.

The first pattern that matches a line wins. A pattern must match the whole line; one that does not is
looked for within it, so that launcher labels and indentation do no harm.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocol.text.ansi import text_without_escapes
from sflow_ctl.plan.model import STDOUT, PlannedOutput
from sflow_ctl.results.aggregates import AggregateError, summarised

_LABEL = re.compile(r"\d+: ")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\*)\]|\[\"([^\"]*)\"\]|\['([^']*)'\]")

Read = Callable[[str], Iterable[str]]
"""Lines of a source: `stdout`, or a file of the task. Raises: OSError."""


class PatternError(ValueError):
    """A pattern that the `parse` library does not accept, or a JSON path that is none."""


@dataclass(slots=True)
class Collected:
    """What a task's outputs say. `problems` are sentences for people; a problem never fails a task."""

    values: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def visible(self) -> dict[str, Any]:
        """What later tasks see as `task.NAME.outputs`: a metric stands before the values it was made of."""
        return {**self.values, **self.metrics}


def collect(outputs: Sequence[PlannedOutput], read: Read) -> Collected:
    """All values of one task, in the order of its outputs."""
    found: dict[str, list[Any]] = {}
    result = Collected()
    for source, patterns in _patterns_by_source(outputs).items():
        try:
            _add(found, match_lines(patterns, read(source)))
        except (OSError, PatternError) as error:
            result.problems.append(str(error))
    for output in outputs:
        name = output.name or ""
        try:
            if output.json is not None:
                found.setdefault(name, []).extend(_from_json(output.json, output.source, read))
            elif output.csv is not None:
                found.setdefault(name, []).extend(column(output.csv, read(output.source)))
        except (OSError, ValueError, KeyError) as error:
            result.problems.append(f"{output.source}: {error}")
    result.values = {name: one[0] if len(one) == 1 else one for name, one in found.items() if one}
    for metric in (metric for output in outputs for metric in output.metrics):
        try:
            if found.get(metric.name):
                result.metrics[metric.name] = summarised(found[metric.name], metric.type, metric.aggregate)
        except AggregateError as error:
            result.problems.append(f"metric {metric.name}: {error}")
    return result


def _patterns_by_source(outputs: Sequence[PlannedOutput]) -> dict[str, list[str]]:
    by_source: dict[str, list[str]] = {}
    for output in outputs:
        if output.pattern is not None:
            by_source.setdefault(output.source, []).append(output.pattern)
    return by_source


def _add(found: dict[str, list[Any]], more: dict[str, list[Any]]) -> None:
    for name, values in more.items():
        found.setdefault(name, []).extend(values)


# ---------------------------------------------------------------------- lines


def match_lines(patterns: Sequence[str], lines: Iterable[str]) -> dict[str, list[Any]]:
    """Name to all values found, in order. Raises: PatternError."""
    compiled = [compile_pattern(pattern) for pattern in patterns]
    collected: dict[str, list[Any]] = {}
    for line in lines:
        for text in clean_lines(line):
            for pattern in compiled:
                result = (
                    pattern.parse(text)
                    or pattern.parse(_LABEL.sub("", text, count=1))
                    or pattern.search(text)
                )
                if result is not None:
                    for name, value in result.named.items():
                        collected.setdefault(name, []).append(value)
                    break
    return collected


def compile_pattern(pattern: str) -> Any:
    """A `parse` parser, with the format's own type `w*`. Raises: PatternError."""
    import parse

    def words(text: str) -> str:
        return text

    words.pattern = r"\w*"  # type: ignore[attr-defined]
    try:
        return parse.compile(pattern, {"w*": words}, case_sensitive=True)
    except (ValueError, TypeError, KeyError, re.error, NotImplementedError) as error:
        raise PatternError(f'"{pattern}" is no valid pattern: {error}') from error


def clean_lines(line: str) -> list[str]:
    """A line of a log as a person reads it: returns end lines too, no escape sequences, no trailing
    blanks.
    """
    text = text_without_escapes(line)
    parts = text.split("\r") if "\r" in text else [text]
    return [part.rstrip() for part in parts if part.strip()]


# ---------------------------------------------------------------------- JSON and CSV


def _from_json(path: str, source: str, read: Read) -> list[Any]:
    """A file is one document; in a log every line that is a JSON object or list counts."""
    import json

    steps = json_path(path)
    if source != STDOUT:
        return select(json.loads("".join(read(source))), steps)
    values: list[Any] = []
    for line in read(source):
        text = _LABEL.sub("", line, count=1).strip()
        if text[:1] in ("{", "["):
            try:
                values += select(json.loads(text), steps)
            except ValueError:
                continue  # a line of a log that only looks like JSON
    return values


def json_path(path: str) -> tuple[str | int, ...]:
    """Steps of `a.b[0].c`, `$.a["b"]`, `runs[*].rate`; "*" is every member. Raises: PatternError."""
    text = path.removeprefix("$")
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise PatternError(f'"{path}" is no path into a JSON document, like a.b[0].c')
        plain, index, quoted, single = match.groups()
        if index is not None:
            steps.append("*" if index == "*" else int(index))
        else:
            steps.append(next(name for name in (plain, quoted, single) if name is not None))
        position = match.end()
    return tuple(steps)


def select(document: Any, steps: Sequence[str | int]) -> list[Any]:
    """The values that a path leads to; none where it leads nowhere. A list at its end is several values."""
    found = [document]
    for step in steps:
        following: list[Any] = []
        for value in found:
            if step == "*" and isinstance(value, list | dict):
                following += value.values() if isinstance(value, dict) else value
            elif isinstance(value, dict) and str(step) in value:
                following.append(value[str(step)])
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                following.append(value[step])
        found = following
    return [one for value in found for one in (value if isinstance(value, list) else [value])]


def column(name: str, lines: Iterable[str]) -> list[Any]:
    """The values of a column of a CSV file with a header; numbers become numbers. Raises: KeyError."""
    import csv

    reader = csv.DictReader(lines)
    if name not in (reader.fieldnames or ()):
        raise KeyError(f'no column "{name}", there are {", ".join(reader.fieldnames or ()) or "none"}')
    return [_number(row[name]) for row in reader if row[name] not in (None, "")]


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
