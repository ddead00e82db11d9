"""Reads metrics and parameters from the files of a task: JSON where a path into it is given or its name says so, else text."""

import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from protocol.json_path import json_path, members
from protocol.messages.handover import GIVEN_VALUES, OutputRule
from protocol.text.json_documents import decoded, documents_of
from protocol.typed_values import WrongTypeError, typed, typed_text
from sflow_agent.handover.problems import HandoverError

MAX_DOCUMENT = 64 << 20
"""Bytes of a file with values; its data take several times as much memory."""


def read_small(path: str) -> bytes:
    """Return the content of a regular file. Raises: OSError, also for one that is too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is not a regular file")
        content = file.read(MAX_DOCUMENT + 1)
    if len(content) > MAX_DOCUMENT:
        raise OSError(0, f"it has more than {MAX_DOCUMENT >> 20} MiB")
    return content


def documents_in(path: str) -> list[Any]:
    """Return the JSON documents of a file; none if it is not there. Raises: ValueError, OSError."""
    try:
        content = read_small(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return list(documents_of(decoded(content)))
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def value_of(rule: OutputRule, path: str, shown: str) -> Any:
    """Return the value of a metric or a parameter that is in the file at `path`. Raises: HandoverError, OSError."""
    wanted = rule.type or ("float" if rule.kind == "metric" else None)
    try:
        if rule.json is None and not path.endswith(".json"):
            text = decoded(read_small(path))
            return typed_text(text.removesuffix("\n").removesuffix("\r"), wanted)
        documents = documents_in(path)
    except WrongTypeError as error:
        raise HandoverError(f"its output {rule.name}: {error}, in {shown}") from None
    except ValueError as error:
        raise HandoverError(f"its output {rule.name} cannot be read: {shown} is not JSON: {error}") from None
    return _member(rule, documents, wanted, shown)


def given_value(rule: OutputRule, given: Mapping[str, Any]) -> Any:
    """Return the value that a program has put into `GIVEN_VALUES`. Raises: HandoverError."""
    if rule.name not in given:
        raise HandoverError(
            f"its output {rule.name} is missing: its program has not put it into $SFLOW_OUTPUTS_FILE",
            f'write {{"{rule.name}": VALUE}} there, or give it a `path` or a `default`',
            is_missing=True,
        )
    shown = "$SFLOW_OUTPUTS_FILE"
    wanted = rule.type or ("float" if rule.kind == "metric" else None)
    return _member(rule, [given[rule.name]], wanted, shown)


def given_values(directory: str) -> dict[str, Any]:
    """Return what a program has put into `GIVEN_VALUES`; nothing without the file. Raises: HandoverError, OSError."""
    try:
        documents = documents_in(f"{directory}/{GIVEN_VALUES}")
    except ValueError as error:
        raise HandoverError(
            f"what its program has put into $SFLOW_OUTPUTS_FILE is not JSON: {error}"
        ) from None
    merged: dict[str, Any] = {}
    for document in documents:
        if not isinstance(document, dict):
            raise HandoverError(
                "what its program has put into $SFLOW_OUTPUTS_FILE is not a JSON object",
                'write {"NAME": VALUE}; several objects, one after the other, are joined',
            )
        merged.update(document)
    return merged


def _member(rule: OutputRule, documents: list[Any], wanted: Any, shown: str) -> Any:
    found = (
        documents
        if rule.json is None
        else [one for document in documents for one in members(document, json_path(rule.json))]
    )
    if not found:
        raise HandoverError(
            f"its output {rule.name} is missing: {shown} has no {rule.json}",
            "correct `json`, or give the output a `default`",
            is_missing=True,
        )
    value = found[0] if len(found) == 1 else found
    try:
        return typed(value, wanted)
    except WrongTypeError as error:
        raise HandoverError(f"its output {rule.name}: {error}, in {shown}") from None


def size_of(value: Any) -> int:
    """Return the bytes of a value as JSON."""
    return len(json.dumps(value, separators=(",", ":")).encode())
