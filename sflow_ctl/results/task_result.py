"""Makes the `result` of a completed task: from the lines of its log, or from a JSON file that it has written. Pure.

`result.json` and `results.json` have the fields that sflow gives them. Nothing here fails a task: what is missing is an
error in the document. Called by the output collector of the run.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from protocol.text.ansi import text_without_escapes
from protocol.text.json_documents import documents
from protocol.text.line_pattern import LinePattern
from sflow_ctl.plan.results import PlannedResult, PlannedResultPattern
from sflow_ctl.results.aggregates import AggregateError, summarised

RESULT_VERSION, RESULTS_VERSION = "sflow.result.v1", "sflow.results.v1"
COMPLETED = "COMPLETED"
"""Results are made of tasks that ended with success only."""
MAX_VALUES = 100_000
"""Values of one name that are aggregated."""
MAX_MATCHES = 1000
"""Matches of one name that are recorded."""
MAX_TEXT = 500
_TRUE, _FALSE = ("true", "yes", "y", "on", "1"), ("false", "no", "n", "off", "0")


class TaskResult(Struct):
    """What was found."""

    source: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    matches: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    whole: dict[str, Any] | None = None
    """The document that the task has written itself in our schema: it is taken as it is."""

    @property
    def is_ok(self) -> bool:
        """Return whether nothing is missing."""
        return not self.errors and (self.whole is None or self.whole.get("ok") is not False)

    def document(self, task: str) -> dict[str, Any]:
        """Return the content of `result.json`."""
        if self.whole is not None:
            return self.whole
        return {
            "schema_version": RESULT_VERSION,
            "task": task,
            "status": COMPLETED,
            "ok": self.is_ok,
            "source": self.source,
            "values": self.values,
            "metadata": self.metadata,
            "matches": self.matches,
            "errors": self.errors,
        }


def result_of_lines(planned: PlannedResult, lines: Iterable[str], log: str) -> TaskResult:
    """Search the lines of a log, which is called `log` in the document."""
    result = TaskResult({"type": "log", "path": log})
    searches = [_Search(pattern) for pattern in planned.patterns]
    for number, line in enumerate(lines, 1):
        text = text_without_escapes(line.rstrip("\r\n"))
        for search in searches:
            search.look(number, text)
    for search in searches:
        search.finish(result)
    return result


def result_of_file(file: str, read: "bytes | OSError") -> TaskResult:
    """Take the content of a task's JSON file, or why it cannot be read."""
    result = TaskResult({"type": "file", "path": file})
    if isinstance(read, OSError):
        missing = isinstance(read, FileNotFoundError)
        why = f"Source file not found: {file}" if missing else f"{file}: {read.strerror or read}"
        result.errors.append(why)
        return result
    try:
        document, *others = documents(read)
    except (ValueError, RecursionError) as error:
        result.errors.append(f"{file} is not JSON: {error}")
        return result
    if others:
        result.errors.append(f"{file} has {1 + len(others)} JSON documents: one was expected")
        return result
    if not isinstance(document, dict):
        result.errors.append(f"{file} is not a JSON object")
    elif document.get("schema_version") == RESULT_VERSION and isinstance(document.get("values"), dict):
        result.whole, result.values = document, document["values"]
    else:
        result.values = document
    return result


def results_document(run: str, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of `results.json`; `tasks` are the entries of `results_entry`."""
    return {"schema_version": RESULTS_VERSION, "workflow": run, "tasks": dict(tasks)}


def results_entry(task: str, is_ok: bool, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `results.json` has of one task."""
    return {"status": COMPLETED, "ok": is_ok, "result_file": f"{task}/result.json", "values": values}


def encoded(document: Mapping[str, Any]) -> bytes:
    """Return a document as its file has it: sorted keys, two blanks."""
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"


class _Search:
    """One pattern over the lines of a log."""

    def __init__(self, planned: PlannedResultPattern) -> None:
        self._planned = planned
        self._regex = LinePattern(planned.regex)
        self._group = _chosen(self._regex, planned.group)
        self._values: list[Any] = []
        self._matches: list[dict[str, Any]] = []
        self._errors: list[str] = []

    def look(self, number: int, line: str) -> None:
        """Take the matches of a line."""
        for match in self._regex.matches(line, MAX_VALUES):
            text = match[self._group]
            if text is None:
                continue  # a group that has no part in this match
            try:
                value = typed(text, self._planned.type)
            except ValueError:
                if len(self._errors) < MAX_MATCHES:
                    what = f"line {number}: {text[:MAX_TEXT]!r} is not of type {self._planned.type}"
                    self._errors.append(f"{self._planned.name}: {what}")
                continue
            if len(self._values) < MAX_VALUES:
                self._values.append(value)
            if len(self._matches) < MAX_MATCHES:
                self._matches.append({"line": number, "value": value, "text": line[:MAX_TEXT]})

    def finish(self, result: TaskResult) -> None:
        """Add the value to the result."""
        planned = self._planned
        result.metadata[planned.name] = {
            "unit": planned.unit,
            "type": planned.type,
            "aggregate": planned.aggregate,
        }
        result.errors += self._errors
        if self._regex.problem:
            result.errors.append(f"{planned.name}: {self._regex.problem}")
        if not self._values:
            if planned.is_required:
                result.errors.append(f"Required result '{planned.name}' did not match any line")
            return
        result.matches[planned.name] = self._matches
        try:
            result.values[planned.name] = summarised(self._values, None, planned.aggregate)
        except AggregateError as error:
            result.errors.append(f"{planned.name}: {planned.aggregate} cannot be made: {error}")


def _chosen(regex: LinePattern, group: str | int | None) -> int:
    """Return the number of the group that is the value. Raises: IndexError for one that the pattern does not have."""
    if group is None:
        value = regex.group_number("value")
        return min(1, regex.groups) if value is None else value
    number = regex.group_number(group)
    if number is None:
        raise IndexError(f"no group {group}")
    return number


def typed(text: str, kind: str) -> Any:
    """Return a text as a value of a type. Raises: ValueError."""
    stripped = text.strip()
    if kind == "string":
        return text
    if kind == "int":
        return int(stripped)
    if kind == "float":
        return float(stripped)
    if kind == "bool":
        return _flag(stripped)
    if kind == "json":
        return _json(stripped)
    return _guessed(text, stripped)


def _guessed(text: str, stripped: str) -> Any:
    if "_" not in stripped:  # Python reads 1_000; logs do not mean it
        for convert in (int, float):
            try:
                return convert(stripped)
            except ValueError:
                continue
    if stripped.lower() in ("true", "false"):
        return stripped.lower() == "true"
    if stripped[:1] in ("{", "["):
        try:
            return _json(stripped)
        except ValueError:
            pass
    return text


def _flag(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
