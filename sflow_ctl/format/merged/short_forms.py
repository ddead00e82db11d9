"""Expands the short forms of a task's fields, so that all later steps see the long ones.

Called when files are merged. `script: TEXT`, `depends_on: NAME`, `result: {NAME: REGEX}`, `retries: 3`,
`replicas: 3`, `resources: {gpus: 2, nodes: 1}`: each has only one possible meaning, and people write it first.
"""

import copy
from typing import Any, TypeGuard

from sflow_ctl.format.expressions.templates import has_expression

RETRY_INTERVAL = "1s"
"""Pause before a retry where only the number of retries is given."""


_TEXTS = frozenset({"script", "required_by"})


def expand_short_forms(body: dict[str, Any]) -> None:
    """Replace the short forms in a task's body."""
    for field in ("script", "depends_on", "required_by", "outputs"):
        value = body.get(field)
        is_one = isinstance(value, str) if field in _TEXTS else isinstance(value, str | dict)
        if is_one and not (field == "outputs" and isinstance(value, str)):
            body[field] = [value]
    result = body.get("result")
    if _is_map_of_regexes(result):
        body["result"] = {"patterns": [{"name": name, "regex": regex} for name, regex in result.items()]}
    if _is_count(body.get("retries")):
        body["retries"] = {"count": body["retries"], "interval": RETRY_INTERVAL}
    if _is_count(body.get("replicas")):
        body["replicas"] = {"count": body["replicas"]}
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


def with_long_notify(notify: Any) -> Any:
    """Return a workflow's `notify` as a list, each with a list of events."""
    entries = [notify] if isinstance(notify, dict) else notify
    if not isinstance(entries, list):
        return notify
    return [
        {**entry, "when": [entry["when"]]}
        if isinstance(entry, dict) and isinstance(entry.get("when"), str)
        else entry
        for entry in entries
    ]


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
