"""`--set`, `--artifact` and `--missable-tasks`, applied to the merged document before it is checked."""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from protocol.errors import Finding
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.expressions.templates import MARK
from sflow_ctl.format.merging import Item, Merged, named_items
from sflow_ctl.format.schema import ARTIFACT_FIELDS

_TRUE, _FALSE = frozenset(("true", "yes", "on")), frozenset(("false", "no", "off"))


def apply_set(merged: Merged, overrides: Sequence[str], is_strict: bool = False) -> None:
    """Sets variables: at both levels, and `TASK.KEY` those of a task. Strictly, text is never left as it is."""
    for text in overrides:
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator or not key:
            what = f'Invalid variable override format: "{text}"'
            merged.findings.append(Finding("override-format", what, f"--set {text}", "write --set KEY=VALUE"))
            continue
        items = _targets(merged, key)
        if not items:
            what = f'variable "{key}" is not defined in the configuration'
            guess = nearest(
                key, [item.name for item in (*merged.sections["variables"], *merged.workflow_variables)]
            )
            hint = f'did you mean "{guess}"?' if guess else "define it under variables: first"
            merged.findings.append(Finding("override-unknown", what, f"--set {text}", hint))
        for item in items:
            _assign(item, value, is_strict)


def _targets(merged: Merged, key: str) -> list[Item]:
    # Both levels: a workflow variable of that name would otherwise hide what the user asked for.
    found = [item for item in (*merged.workflow_variables, *merged.sections["variables"]) if item.name == key]
    if found or "." not in key:
        return found
    task_name, _, name = key.rpartition(".")
    for task in merged.tasks:
        if task.name == task_name:
            variables = named_items(task.source, (*task.path, "variables"), task.body.get("variables"), [])
            task.body["variables"] = [item.body for item in variables]
            return [item for item in variables if item.name == name]
    return []


def _assign(item: Item, text: str, is_strict: bool) -> None:
    declared = item.body.get("type")
    current = item.body.get("value")
    is_text = declared == "string" or (declared is None and isinstance(current, str) and "${{" not in current)
    is_text = is_text and not is_strict
    value = text if is_text and not text.startswith(("[", "{")) else infer(text)
    if isinstance(value, list):
        item.body["domain"] = [str(member) if is_text else member for member in value]
        item.body["value"] = item.body["domain"][0] if value else None
    else:
        item.body["value"] = value


def infer(text: str) -> Any:
    """What a value on the command line means where the file does not say: JSON, integer, float, boolean,
    text.
    """
    if text.startswith(("[", "{")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    lower = text.lower()
    return True if lower in _TRUE else False if lower in _FALSE else text


def apply_artifacts(merged: Merged, overrides: Sequence[str]) -> None:
    """Points artifacts elsewhere; content goes when the new place is no file, and so do fields it cannot have."""
    for text in overrides:
        name, separator, uri = text.partition("=")
        item = next((item for item in merged.sections["artifacts"] if item.name == name), None)
        if not separator:
            what = f'Invalid artifact override format: "{text}"'
            merged.findings.append(
                Finding("override-format", what, f"--artifact {text}", "write --artifact NAME=URI")
            )
        elif item is None:
            guess = nearest(name, [item.name for item in merged.sections["artifacts"]])
            what = f'artifact "{name}" is not defined in the configuration'
            hint = f'did you mean "{guess}"?' if guess else "define it under artifacts: first"
            merged.findings.append(Finding("override-unknown", what, f"--artifact {text}", hint))
        else:
            item.body["uri"] = uri
            if not uri.startswith("file://"):
                item.body.pop("content", None)
            for field, schemes in ARTIFACT_FIELDS.items():
                if MARK not in uri and uri.partition("://")[0].lower() not in schemes:
                    item.body.pop(field, None)


def strip_missable(merged: Merged, patterns: Sequence[str]) -> None:
    """Removes references to absent tasks that may be absent, and says so."""
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
            merged.warnings.append(f"task {item.name}: dependency on missing {', '.join(gone)} removed")
        probes = item.body.get("probes")
        if isinstance(probes, dict):
            item.body["probes"] = {
                kind: _without_logger(item, kind, probe, is_missable, merged)
                for kind, probe in probes.items()
            }


def _named(dependency: Any) -> Any:
    """The task that an entry of `depends_on` names, short or long."""
    return dependency.get("task") if isinstance(dependency, dict) else dependency


def _without_logger(
    item: Item, kind: str, probe: Any, is_missable: Callable[[Any], bool], merged: Merged
) -> Any:
    watch = probe.get("log_watch") if isinstance(probe, dict) else None
    if not isinstance(watch, dict) or not is_missable(watch.get("logger")):
        return probe
    merged.warnings.append(
        f"task {item.name}: {kind} probe watches its own log, {watch['logger']} is missing"
    )
    return {**probe, "log_watch": {key: value for key, value in watch.items() if key != "logger"}}
