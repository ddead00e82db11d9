"""Rules for the outputs of tasks that agents find: names, paths in the task's directory, fields that belong together."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from protocol.errors import Finding
from protocol.json_path import JsonPathError, json_path
from protocol.messages.handover import MAX_FILES, PATH_KINDS
from protocol.text.lazy_pattern import lazy_pattern
from protocol.typed_values import WrongTypeError, typed
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import has_expression
from sflow_ctl.format.rules.handover.checkpoints import leading_out

Where = Callable[..., str]
NAME = lazy_pattern(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
MAX_NAME = 63
NAME_HINT = f"a letter, then letters, digits and `_`, at most {MAX_NAME}"
_OF_LINES = ("pattern", "csv", "metrics")
"""Fields of values from the log or a `source`."""
_OF_FILES = ("select", "best", "max_files", "stale", "store", "digest")
_DEFAULTS: dict[str, Any] = {
    "select": "latest", "best": None, "max_files": 500, "stale": "ignore", "store": "in_place", "digest": True,
    "pattern": None, "csv": None, "metrics": {}, "source": "stdout", "json": None, "path": [], "value": None, "default": None,
}  # fmt: skip


def found_output_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check the outputs of a task that its agent finds."""
    seen: dict[str, int] = {}
    for index, output in enumerate(task.outputs):
        if not output.is_found:
            continue
        place = ("tasks", task.name, "outputs", index)
        yield from _name_findings(task, output, seen, index, where, place)
        for field, what, hint in _problems(output):
            name = output.name or index
            keys = (field,) if _DEFAULTS.get(field) != getattr(output, field, None) else ()
            yield Finding(
                "wrong-output", f'output "{name}" of task "{task.name}" {what}', where(*place, *keys), hint
            )


def _name_findings(
    task: schema.Task,
    output: schema.Output,
    seen: dict[str, int],
    index: int,
    where: Where,
    place: tuple[str | int, ...],
) -> Iterator[Finding]:
    if output.name is None:
        what = f'an output of task "{task.name}" has no name'
        yield Finding(
            "missing-key", what, where(*place), "e.g. name: checkpoint, or outputs: {checkpoint: {path: ...}}"
        )
        return
    if not NAME.fullmatch(output.name) or len(output.name) > MAX_NAME:
        what = f'"{output.name}" of task "{task.name}" cannot be the name of an output'
        yield Finding("unsafe-name", what, where(*place, "name"), NAME_HINT)
    if seen.setdefault(output.name.lower(), index) != index:
        what = f'task "{task.name}" has two outputs called "{output.name}"'
        yield Finding(
            "duplicate-name", what, where(*place, "name"), "rename one of them; case does not tell them apart"
        )


def _problems(output: schema.Output) -> Iterator[tuple[str, str, str]]:
    """Yield (field, what, hint) of what is wrong with the fields of an output."""
    kind = output.found_kind
    for field in _unfit(output, kind):
        yield field, f"is a {kind}, for which {field} has no meaning", f"drop {field}, or change kind"
    if kind in PATH_KINDS and not output.path:
        yield "path", f"is a {kind} and has no path", 'e.g. path: "ckpt/**/*.pt"'
    if kind == "dir" and (len(output.path) > 1 or any(one in path for path in output.path for one in "*?[")):
        yield "path", "is a dir, which is one path without a pattern", "or use kind: files"
    if kind == "value" and output.value is None:
        yield "value", "is a value and has none", "e.g. value: ${{ variables.N }}"
    for path in output.path:
        problem = None if has_expression(path) else leading_out(path)
        if problem is not None:
            yield (
                "path",
                f'has the path "{path}", which {problem}',
                "paths are relative to the task's directory, and stay in it",
            )
    yield from _choice_problems(output)
    yield from _value_problems(output, kind)


def _unfit(output: schema.Output, kind: str) -> Iterator[str]:
    """Yield the fields that are given and mean nothing for a kind."""
    unfit: tuple[str, ...] = (*_OF_LINES, "source")
    if kind == "value":
        unfit += ("path", "json", *_OF_FILES)
    elif kind in PATH_KINDS:
        unfit += ("json", "value")
        unfit += () if kind == "file" else ("select", "best")
    else:
        unfit += ("value", "max_files", "store", "digest")
    if kind in ("files", "dir", "manifest"):
        unfit += ("default",)
    for field in unfit:
        if getattr(output, field) != _DEFAULTS[field]:
            yield field


def _choice_problems(output: schema.Output) -> Iterator[tuple[str, str, str]]:
    select, best = output.select, output.best
    if best is not None and select != "best":
        yield "best", "has `best`, which only counts with select: best", "add select: best"
    if select not in ("latest", "best") and not has_expression(select):
        problem = leading_out(select)
        if problem is not None:
            hint = "latest, best, or a path or pattern in the task's directory"
            yield "select", f'selects "{select}", which {problem}', hint
    if best is not None:
        plain = best.path.replace("{", "").replace("}", "")
        problem = None if has_expression(best.path) else leading_out(plain)
        if problem is not None:
            hint = "it is relative to the task's directory"
            yield "best", f'has best.path "{best.path}", which {problem}', hint
        yield from _json_problem("best", best.key)
    if isinstance(output.max_files, int) and not 1 <= output.max_files <= MAX_FILES:
        hint = f"1 to {MAX_FILES}; a manifest or a dir may be better"
        yield "max_files", f"has max_files {output.max_files}", hint


def _value_problems(output: schema.Output, kind: str) -> Iterator[tuple[str, str, str]]:
    if output.json is not None:
        yield from _json_problem("json", output.json)
    if output.type is not None and kind in PATH_KINDS:
        fits = output.type == ("paths" if kind == "files" else "path")
        if not fits:
            yield "type", f"is a {kind}, and has type {output.type}", "leave it out: files have paths"
    for field in ("value", "default"):
        value = getattr(output, field)
        if value is None or output.type is None or (isinstance(value, str) and has_expression(value)):
            continue
        try:
            typed(value, output.type)
        except WrongTypeError as error:
            yield field, f"has a {field} of another type: {error}", f"correct {field} or type"
    if output.required is True and output.default is not None:
        yield "required", "is required and has a default, which is then used instead", "drop one of them"


def _json_problem(field: str, path: str) -> Iterator[tuple[str, str, str]]:
    if has_expression(path):
        return
    try:
        json_path(path)
    except JsonPathError as error:
        yield field, f"has a wrong {field}: {error}", 'e.g. stats.rate, runs[*].rate, or ["a.b"]'
