"""Renders a task's `args` as flags for a shell, and as JSON. Imported for tasks that have some. Pure."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from sflow_ctl.format.written import json_number

FILES = '"$SFLOW_TASK_FILES_DIR"'
"""The directory of a task's files, for its script."""
Lists = Literal["joined", "repeated", "commas"]


def flags(args: Mapping[str, Any], lists: Lists) -> str:
    """Return arguments as words for a shell, in the order of the file."""
    return " ".join(
        shlex.quote(word) for name, value in args.items() for word in _words(_flag(name), value, lists)
    )


def _flag(name: str) -> str:
    return name if name.startswith("-") else f"--{name}"


def _words(flag: str, value: Any, lists: Lists) -> Iterator[str]:
    if value is None or value is False:
        return
    if value is True:
        yield flag
        return
    if not isinstance(value, list | tuple):
        yield from _pair(flag, _text(value))
        return
    members = [_text(one) for one in value if one is not None]
    if not members:
        return
    match lists:
        case "commas":
            yield from _pair(flag, ",".join(members))
        case "repeated":
            for one in members:
                yield from _pair(flag, one)
        case "joined":
            yield from (flag, *members)


def _pair(flag: str, text: str) -> Iterator[str]:
    """Yield a flag and its value; as one word where a program would read the value as an option."""
    if text.startswith("-") and flag.startswith("--"):
        yield f"{flag}={text}"
    else:
        yield flag
        yield text


def _text(value: Any) -> str:
    """Return a value as text: numbers as they were written, lists and mappings inside as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return as_json(value) if isinstance(value, list | tuple | dict) else str(value)


def as_json(value: Any) -> str:
    """Return arguments as JSON."""
    return msgspec.json.encode(value, enc_hook=json_number).decode()
