"""Sets the inputs of the workflow, as `--input NAME=VALUE` and `--set inputs.NAME=VALUE` give them. Called by `overrides`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocol.errors import Finding
from protocol.typed_values import WrongTypeError, typed_text
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.merged.files import Merged
from sflow_ctl.format.written import json_value, number_or_text, plain

PREFIX = "inputs."
"""Of the keys of `--set` that name inputs of the workflow."""
MAX_FILE_BYTES = 64 << 20
"""Of a file with a value: it becomes part of the run's workflow."""
_WORDS = {"true": True, "false": False, "null": None}


def set_input(merged: Merged, name: str, text: str) -> Finding | None:
    """Give an input its value, `@FILE` that of a file and `@@` a text that begins with one; return what is wrong with it."""
    option = f"--input {name}={text}"
    declared: Any = None if merged.workflow is None else merged.workflow.body.get("inputs")
    declared = declared if isinstance(declared, dict) else {}
    if name not in declared:
        listed = f"it has {', '.join(map(str, declared))}" if declared else "declare it under workflow.inputs"
        hint = guess_hint(name, [str(one) for one in declared], listed)
        return Finding("input-unknown", f'the workflow has no input "{name}"', option, hint)
    assert merged.workflow is not None
    body: Mapping[str, Any] = declared[name] if isinstance(declared[name], dict) else {}
    kind, finding = body.get("type"), None
    given: dict[str, Any] = {"required": False}  # a wrong value is not a missing one as well
    try:
        given = {"value": _value(text, kind)}
    except (WrongTypeError, ValueError) as error:
        finding = Finding("wrong-input", f'input "{name}" of the workflow: {error}', option, _hint(kind))
    except OSError as error:
        what = f'input "{name}" of the workflow: {error.filename} cannot be read: {error.strerror}'
        finding = Finding("wrong-input", what, option, "name a file that is there, or write @@ for a text")
    merged.workflow.body["inputs"] = {**declared, name: {**body, **given}}
    merged.workflow.note_given(("inputs", name, "value"), option)
    return finding


def _value(text: str, kind: Any) -> Any:
    """Return the value of a text. Raises: WrongTypeError, ValueError, OSError."""
    is_json = kind in ("list", "dict", "paths")
    if text.startswith("@@"):
        text = text[1:]
    elif text.startswith("@"):
        path = Path(text[1:])
        is_json = is_json or (kind is None and path.suffix == ".json")
        text = _content(path)
    elif kind is None:
        return _guessed(text)
    if is_json and kind is None:
        return plain(json_value(text))
    value = plain(typed_text(text, kind))
    if kind == "path":
        return _absolute(value)
    return [_absolute(one) for one in value] if kind == "paths" else value


def _content(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{path} has {size} bytes, and may have {MAX_FILE_BYTES}: give its path instead")
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8: give its path instead") from None


def _guessed(text: str) -> Any:
    """Return the value of a text for an input of any type: JSON, a number, a word for a boolean, or the text."""
    if text.startswith(("[", "{")):
        return plain(json_value(text))
    return _WORDS.get(text, plain(number_or_text(text)))


def _absolute(path: str) -> str:
    return str(Path.cwd() / path)


def _hint(kind: Any) -> str | None:
    if kind in ("list", "paths"):
        return "write JSON, as in '[1, 2]'"
    return "write JSON, as in '{\"a\": 1}'" if kind == "dict" else None
