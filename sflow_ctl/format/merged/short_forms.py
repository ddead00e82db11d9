"""Expands the short forms of a task's fields, so that all later steps see the long ones.

Called when files are merged. `script: TEXT`, `depends_on: NAME`, `result: {NAME: REGEX}`, `retries: 3`,
`replicas: 3`, `resources: {gpus: 2, nodes: 1}`: each has only one possible meaning, and people write it first.
"""

import copy
import re
from typing import Any, TypeGuard

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.expressions.templates import has_expression
from sflow_ctl.format.schema.dependencies import SLURMS

RETRY_INTERVAL = "1s"
"""Pause before a retry where only the number of retries is given."""


_TEXTS = frozenset({"script", "required_by", "packages"})


def expand_short_forms(body: dict[str, Any]) -> None:
    """Replace the short forms in a task's body."""
    _expand_handover(body)
    for field in ("script", "depends_on", "required_by", "packages"):
        value = body.get(field)
        is_one = isinstance(value, str) if field in _TEXTS else isinstance(value, str | dict)
        if is_one:
            body[field] = [value]
    result = body.get("result")
    if _is_map_of_regexes(result):
        body["result"] = {"patterns": [{"name": name, "regex": regex} for name, regex in result.items()]}
    if _is_count(body.get("retries")):
        body["retries"] = {"count": body["retries"], "interval": RETRY_INTERVAL}
    if _is_count(body.get("replicas")):
        body["replicas"] = {"count": body["replicas"]}
    if "foreach" in body:
        body["foreach"] = _long_foreach(body["foreach"])
    resources = body.get("resources")
    if isinstance(resources, dict):
        body["resources"] = {
            key: {"count": value} if key in ("gpus", "nodes") and _is_count(value) else value
            for key, value in resources.items()
        }
    if isinstance(body.get("checkpoint"), dict):
        body["checkpoint"] = _long_checkpoint(body["checkpoint"])
    if isinstance(body.get("environment"), dict):
        body["environment"] = with_long_environment(body["environment"])
    if isinstance(body.get("monitor"), dict):
        body["monitor"] = with_long_monitor(body["monitor"])
    if isinstance(body.get("windows"), list):
        body["windows"] = [_long_window(one) for one in body["windows"]]


def _long_foreach(foreach: Any) -> Any:
    if isinstance(foreach, str | list):
        return {"items": foreach}
    if isinstance(foreach, dict) and isinstance(foreach.get("shuffle"), bool):
        return {**foreach, "shuffle": {} if foreach["shuffle"] else None}
    return foreach


def _in_our_words(needs: Any) -> Any:
    """Return `depends_on` with our words in place of Slurm's."""
    if isinstance(needs, list):
        return [_in_our_words(one) for one in needs]
    until = needs.get("until") if isinstance(needs, dict) else None
    return {**needs, "until": SLURMS[until]} if isinstance(until, str) and until in SLURMS else needs


def _expand_handover(body: dict[str, Any]) -> None:
    """Replace the short forms of a task's outputs, inputs and needs."""
    if "depends_on" in body:
        body["depends_on"] = _in_our_words(body["depends_on"])
    outputs, inputs = body.get("outputs"), body.get("inputs")
    if is_mapping_of_outputs(outputs):
        outputs = [{"name": name, **one} for name, one in outputs.items()]
    elif isinstance(outputs, dict):
        outputs = [outputs]
    if isinstance(outputs, list):
        body["outputs"] = [_with_list(one, "path") for one in outputs]
    if isinstance(inputs, dict):
        body["inputs"] = {
            name: _with_list(one, "from") if isinstance(one, dict) else {"value": one}
            for name, one in inputs.items()
        }


def is_mapping_of_outputs(outputs: Any) -> TypeGuard[dict[str, dict[str, Any]]]:
    """Return whether outputs are given by name: an entry of the list has a field that is not a mapping."""
    return (
        isinstance(outputs, dict) and bool(outputs) and all(isinstance(one, dict) for one in outputs.values())
    )


def _with_list(one: Any, field: str) -> Any:
    """Return a mapping with its only text in a field as a list."""
    return {**one, field: [one[field]]} if isinstance(one, dict) and isinstance(one.get(field), str) else one


def _long_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with its single pattern, and the single kind of attempts, as lists."""
    long = {**checkpoint}
    if isinstance(long.get("globs"), str):
        long["globs"] = [long["globs"]]
    resume = long.get("resume")
    if isinstance(resume, dict) and isinstance(resume.get("after"), str):
        long["resume"] = {**resume, "after": [resume["after"]]}
    return long


def with_long_backend(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a backend, with those that are given as their only entry as lists."""
    body = {**body, "exclude": [body["exclude"]]} if isinstance(body.get("exclude"), str) else body
    mail = body.get("mail")
    if isinstance(mail, dict) and isinstance(mail.get("type"), str):
        return {**body, "mail": {**mail, "type": [mail["type"]]}}
    return body


def with_long_environment(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an environment, with those that are given as their only entry as lists."""
    return {
        key: [value] if key in ("modules", "source", "before") and isinstance(value, str | dict) else value
        for key, value in body.items()
    }


def _long_window(window: Any) -> Any:
    """Return a named window with its single patterns as lists."""
    if not isinstance(window, dict):
        return window
    return {
        key: {**side, "pattern": [side["pattern"]]}
        if key in ("start", "end") and isinstance(side, dict) and isinstance(side.get("pattern"), str)
        else side
        for key, side in window.items()
    }


_LISTED_IN_MONITOR = (
    ("scopes", "custom", "script"),
    ("resources", "used_by_tasks"),
    ("window", "start", "pattern"),
    ("window", "end", "pattern"),
    ("report", "format"),
)


def with_long_monitor(monitor: dict[str, Any]) -> dict[str, Any]:
    """Return a monitor with its short forms replaced: counts, lists of one entry, scopes without a body."""
    monitor = copy.deepcopy(monitor)
    for path in _LISTED_IN_MONITOR:
        inner: Any = monitor
        for key in path[:-1]:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get(path[-1]), str):
            inner[path[-1]] = [inner[path[-1]]]
    resources, scopes = monitor.get("resources"), monitor.get("scopes")
    if isinstance(resources, dict):
        for key in ("gpus", "nodes"):
            if _is_count(resources.get(key)):
                resources[key] = {"count": resources[key]}
    if isinstance(scopes, dict):
        monitor["scopes"] = {key: {} if value is None else value for key, value in scopes.items()}
    return monitor


_OF_NOTIFY = ("when", "mail", "task")
"""Lists of an entry of `notify` that may be given as their only member."""


def with_long_notify(notify: Any) -> Any:
    """Return a workflow's `notify` as a list, each with lists of events, addresses and tasks."""
    entries = [notify] if isinstance(notify, dict) else notify
    if not isinstance(entries, list):
        return notify
    return [
        {
            key: [value] if key in _OF_NOTIFY and isinstance(value, str) else value
            for key, value in entry.items()
        }
        if isinstance(entry, dict)
        else entry
        for entry in entries
    ]


_OUTPUT = lazy_pattern(r"[\w.-]+\.outputs\.[A-Za-z]\w*", re.ASCII)


def with_long_values(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return a workflow whose inputs and outputs have their long forms: a type, and an output of a task or a value."""
    inputs, outputs = workflow.get("inputs"), workflow.get("outputs")
    long = {**workflow}
    if isinstance(workflow.get("packages"), str):
        long["packages"] = [workflow["packages"]]
    if isinstance(inputs, dict):
        long["inputs"] = {
            name: {"type": one} if isinstance(one, str) else {} if one is None else one
            for name, one in inputs.items()
        }
    if isinstance(outputs, dict):
        long["outputs"] = {
            name: _with_list(one, "from")
            if isinstance(one, dict)
            else {"from": [one]}
            if isinstance(one, str) and _OUTPUT.fullmatch(one)
            else {"value": one}
            for name, one in outputs.items()
        }
    return long


def _is_map_of_regexes(result: Any) -> TypeGuard[dict[str, str]]:
    """Return whether a result maps names to regular expressions; one with only `file` and `source` reads a file."""
    return (
        isinstance(result, dict)
        and bool(result.keys() - {"file", "source"})
        and all(isinstance(name, str) and isinstance(regex, str) for name, regex in result.items())
    )


def _is_count(value: Any) -> bool:
    """Return True for a number, its text, or an expression."""
    if isinstance(value, str):
        return has_expression(value) or value.strip().isdigit()
    return isinstance(value, int | float) and not isinstance(value, bool)
