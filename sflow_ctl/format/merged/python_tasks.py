"""Gives tasks with `python` the script that calls their function, before they are checked; the file stays as it is."""

import shlex
from collections.abc import Mapping
from typing import Any

from protocol.errors import Finding
from sflow_ctl.format.merged.items import Item

_HINT = "package.module:function, path/file.py:function, or {file: path/file.py, function: name}"


def with_script(body: dict[str, Any], item: Item, findings: list[Finding]) -> dict[str, Any]:
    """Return the task with a script; problems go to `findings`."""
    given = body.get("python")
    if given is None:
        return body
    if "script" in body:
        what = f'task "{item.name}" has both python and script'
        findings.append(Finding("conflicting-keys", what, item.where("script"), "keep one of them"))
        return body
    fields = given if isinstance(given, Mapping) else {}
    function = given if isinstance(given, str) else _function(fields)
    place, _, name = function.rpartition(":") if isinstance(function, str) else ("", "", "")
    if not (place and name):
        what = f'python of task "{item.name}" does not name a function'
        findings.append(Finding("wrong-value", what, item.where("python"), _HINT))
    interpreter = fields.get("interpreter", "python3")
    words = f'{interpreter} -c "$SFLOW_PYTHON_TASK" {_quoted(str(function))}'
    return {**body, "script": [f"exec {words}"]}


def _function(fields: Mapping[str, Any]) -> str | None:
    """Return `place:name` of the long form; None if not exactly one of `module` and `file` is there."""
    module, file = fields.get("module"), fields.get("file")
    if (module is None) == (file is None):
        return None
    return str(module) if file is None else f"{file}:{fields.get('function', 'main')}"


def _quoted(text: str) -> str:
    """Return a word for bash; expressions in it are evaluated inside of the quotes."""
    return shlex.quote(text)
