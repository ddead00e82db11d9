"""Applies `--set`, `--artifact` and `--missable-tasks` to the merged document, before it is checked."""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

from protocol.errors import Finding
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.format.merged.files import Merged, named_items
from sflow_ctl.format.merged.items import Item
from sflow_ctl.format.schema import ARTIFACT_FIELDS, artifact_may_have
from sflow_ctl.format.written import json_value, number_or_text, plain
from sflow_ctl.format.yaml_source import PathKey

PATH_ROOTS = (
    "workflow", "tasks", "sweep", "settings", "artifacts", "backends", "operators", "environments", "storage", "signatures",
)  # fmt: skip
"""First parts of the paths of fields, which are not variables."""
_TRUE, _FALSE = frozenset(("true", "yes", "on")), frozenset(("false", "no", "off"))


def is_path(key: str) -> bool:
    """Return whether a key of `--set` begins as the path of a field does."""
    return key.partition(".")[0] in PATH_ROOTS and "." in key


def apply_set(merged: Merged, overrides: Sequence[str], is_strict: bool = False) -> None:
    """Set variables: those of both levels, with `TASK.KEY` those of a task, and by their paths other fields.

    `is_strict` converts every text, and knows variables only.
    """
    for text in overrides:
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator or not key:
            what = f'Invalid variable override format: "{text}"'
            merged.findings.append(Finding("override-format", what, f"--set {text}", "write --set KEY=VALUE"))
            continue
        if key.startswith("inputs.") and not is_strict and not _targets(merged, key):
            from sflow_ctl.format.merged.given_inputs import PREFIX, set_input  # few workflows have inputs

            finding = set_input(merged, key.removeprefix(PREFIX), value)
            merged.findings += [] if finding is None else [finding]
            continue
        items = _targets(merged, key.removeprefix("variables."))
        place = f"--set {key}=..." if key in merged.secrets else f"--set {text}"
        if not items and not is_strict and is_path(key):
            from sflow_ctl.format.merged.set_paths import (
                set_path,
            )  # few commands set other fields than variables

            finding = set_path(merged, key, value)
            merged.findings += [] if finding is None else [finding]
        elif not items:
            what = f'variable "{key}" is not defined in the configuration'
            names = [item.name for item in (*merged.sections["variables"], *merged.workflow_variables)]
            hint = guess_hint(key, names, "define it under variables: first")
            merged.findings.append(Finding("override-unknown", what, f"--set {text}", hint))
        for item, owner, path in items:
            _assign(item, value, is_strict)
            for field in ("value", "domain"):
                owner.note_given((*path, field), place)


def _targets(merged: Merged, key: str) -> list[tuple[Item, Item, tuple[PathKey, ...]]]:
    """Return the variables of that name, each with the entry that messages know it by and its path in there."""
    # Both levels: a workflow variable of that name would otherwise hide the user's value.
    both = (*merged.workflow_variables, *merged.sections["variables"])
    found: list[tuple[Item, Item, tuple[PathKey, ...]]] = [
        (item, item, ()) for item in both if item.name == key
    ]
    if found or "." not in key:
        return found
    task_name, _, name = key.rpartition(".")
    for task in merged.tasks:
        if task.name == task_name:
            variables = named_items(task.source, (*task.path, "variables"), task.body.get("variables"), [])
            task.body["variables"] = [item.body for item in variables]
            return [
                (item, task, ("variables", index))
                for index, item in enumerate(variables)
                if item.name == name
            ]
    return []


def _assign(item: Item, text: str, is_strict: bool) -> None:
    declared = item.body.get("type")
    current = item.body.get("value")
    is_text = declared in ("string", "str") or (
        declared is None and isinstance(current, str) and "${{" not in current
    )
    is_text = is_text and not is_strict
    value = text if is_text and not text.startswith(("[", "{")) else infer(text)
    value = plain(value) if is_strict else value
    is_list = declared == "list" or (isinstance(current, list) and item.body.get("domain") is None)
    if isinstance(value, list) and (is_strict or not is_list):
        item.body["domain"] = [str(member) if is_text else member for member in value]
        item.body["value"] = item.body["domain"][0] if value else None
    else:
        item.body["value"] = value


def infer(text: str) -> Any:
    """Return the value of a text from the command line: JSON, an integer, a float, a boolean, or the text itself."""
    if text.startswith(("[", "{")):
        try:
            return json_value(text)
        except (ValueError, RecursionError):
            return text
    lower = text.lower()
    return True if lower in _TRUE else False if lower in _FALSE else number_or_text(text)


def apply_artifacts(merged: Merged, overrides: Sequence[str]) -> None:
    """Replace URIs of artifacts. Content and fields that the new scheme cannot have are dropped."""
    for text in overrides:
        name, separator, uri = text.partition("=")
        item = next((item for item in merged.sections["artifacts"] if item.name == name), None)
        if not separator:
            what = f'Invalid artifact override format: "{text}"'
            merged.findings.append(
                Finding("override-format", what, f"--artifact {text}", "write --artifact NAME=URI")
            )
        elif item is None:
            what = f'artifact "{name}" is not defined in the configuration'
            names = [item.name for item in merged.sections["artifacts"]]
            hint = guess_hint(name, names, "define it under artifacts: first")
            merged.findings.append(Finding("override-unknown", what, f"--artifact {text}", hint))
        else:
            item.body["uri"] = uri
            item.note_given(("uri",), f"--artifact {text}")
            if not uri.startswith("file://"):
                item.body.pop("content", None)
            scheme, is_fetched = uri.partition("://")[0], item.body.get("fetch") is True
            for field in ARTIFACT_FIELDS:
                if EXPRESSION_START not in uri and not artifact_may_have(
                    field, scheme, is_fetched=is_fetched
                ):
                    item.body.pop(field, None)


def strip_missable(merged: Merged, patterns: Sequence[str]) -> None:
    """Remove references to missing tasks that match one of `patterns`, with a warning for each."""
    if not patterns:
        return
    present = {item.name for item in merged.tasks}

    def is_missable(name: Any) -> bool:
        return (
            isinstance(name, str)
            and name not in present
            and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        )

    for item in merged.tasks:
        depends_on = item.body.get("depends_on")
        if isinstance(depends_on, list) and any(is_missable(_named(one)) for one in depends_on):
            gone = [_named(one) for one in depends_on if is_missable(_named(one))]
            item.body["depends_on"] = [one for one in depends_on if not is_missable(_named(one))]
            what = f'task "{item.name}": dependency on missing {", ".join(gone)} removed'
            merged.warnings.append(Finding("missing-task", what, item.where("depends_on")))
        probes = item.body.get("probes")
        if isinstance(probes, dict):
            item.body["probes"] = {
                kind: _without_logger(item, kind, probe, is_missable, merged)
                for kind, probe in probes.items()
            }


def _named(dependency: Any) -> Any:
    """Return the task that an entry of `depends_on` names, in its short or long form."""
    return dependency.get("task") if isinstance(dependency, dict) else dependency


def _without_logger(
    item: Item, kind: str, probe: Any, is_missable: Callable[[Any], bool], merged: Merged
) -> Any:
    watch = probe.get("log_watch") if isinstance(probe, dict) else None
    if not isinstance(watch, dict) or not is_missable(watch.get("logger")):
        return probe
    what = f'task "{item.name}": {kind} probe watches its own log, {watch["logger"]} is missing'
    merged.warnings.append(Finding("missing-task", what, item.where("probes", kind, "log_watch", "logger")))
    return {**probe, "log_watch": {key: value for key, value in watch.items() if key != "logger"}}
