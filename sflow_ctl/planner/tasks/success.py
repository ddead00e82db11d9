"""Plans the `success` of a task or workflow: absolute paths, checked patterns and conditions."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from protocol.messages.rank_spec import RequiredFile, RequiredJson, Success
from protocol.text.json_expression import JsonExpressionError, json_expression
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import NumberError, as_int

Path = tuple[str | int, ...]
Render = Callable[[str, Path], str]
"""Evaluates the expressions of a text of the field at a path; deferred ones become placeholders."""


def plan_success(
    success: schema.Success, directory: str, render: Render, evaluate: Callable[[Any], Any], path: Path
) -> Success | None:
    """Return the success conditions, None if there are none; relative paths are in `directory`.

    Raises: UnplannableError, ExpressionError.
    """
    documents = success.json if isinstance(success.json, list) else [success.json]
    planned = Success(
        files=tuple(
            _file(one, directory, render, evaluate, (*path, "files", index))
            for index, one in enumerate(success.files)
        ),
        json=tuple(
            _json(one, directory, render, (*path, "json", *([index] if documents is success.json else [])))
            for index, one in enumerate(documents)
        ),
        require=_patterns(success.require, render, (*path, "require")),
        forbid=_patterns(success.forbid, render, (*path, "forbid")),
    )
    return planned if planned != Success() else None


def _file(
    one: str | schema.SuccessFile,
    directory: str,
    render: Render,
    evaluate: Callable[[Any], Any],
    path: Path,
) -> RequiredFile:
    if isinstance(one, str):
        return RequiredFile(path=_absolute(render(one, path), directory, path))
    try:
        least = as_int(evaluate(one.min_bytes), 0)
    except NumberError as error:
        raise UnplannableError("wrong-value", f"min_bytes {error}", path=(*path, "min_bytes")) from error
    return RequiredFile(path=_absolute(render(one.path, (*path, "path")), directory, path), min_bytes=least)


def _json(one: schema.SuccessJson, directory: str, render: Render, path: Path) -> RequiredJson:
    where = render(one.where, (*path, "where"))
    if EXPRESSION_START not in where:
        try:
            json_expression(where)
        except JsonExpressionError as error:
            what = f'the condition "{where}" {error}'
            raise UnplannableError("wrong-expression", what, path=(*path, "where")) from error
    return RequiredJson(path=_absolute(render(one.path, (*path, "path")), directory, path), where=where)


def _absolute(text: str, directory: str, path: Path) -> str:
    if not text:
        raise UnplannableError("wrong-value", "a path of success is empty", path=path)
    return text if text.startswith("/") else f"{directory}/{text}"


def _patterns(patterns: list[str], render: Render, path: Path) -> tuple[str, ...]:
    rendered = []
    for index, one in enumerate(patterns):
        text = render(one, (*path, index))
        if not text:
            raise UnplannableError("empty-pattern", "a pattern of success is empty", path=(*path, index))
        if EXPRESSION_START not in text:
            try:
                re.compile(text)
            except re.error as error:
                what = f'"{text}" is not a regular expression: {error}'
                raise UnplannableError("wrong-pattern", what, path=(*path, index)) from error
        rendered.append(text)
    return tuple(rendered)


def conditions(success: Success) -> Iterator[str]:
    """Return one line for each condition, for people."""
    for file in success.files:
        yield f"file {file.path}" + (f" of {file.min_bytes} bytes" if file.min_bytes != 1 else "")
    for document in success.json:
        yield f"{document.path}: {document.where}"
    for pattern in success.require:
        yield f"log has {pattern!r}"
    for pattern in success.forbid:
        yield f"log has no {pattern!r}"
