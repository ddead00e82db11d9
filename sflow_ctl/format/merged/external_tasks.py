"""Gives tasks with `external` the script that starts their work, before they are checked; the file stays as it is."""

from collections.abc import Mapping
from typing import Any

from protocol.errors import Finding
from sflow_ctl.format.merged.items import Item


def with_start(body: dict[str, Any], item: Item, findings: list[Finding]) -> dict[str, Any]:
    """Return the task with a script; problems go to `findings`."""
    given = body["external"]
    for other in ("script", "python"):
        if body.get(other) is not None:
            what = f'task "{item.name}" has both external and {other}'
            findings.append(Finding("conflicting-keys", what, item.where(other), "keep one of them"))
            return body
    if not isinstance(given, Mapping):
        return {**body, "script": [""]}  # found to be wrong with the other fields
    lists = {key: [given[key]] for key in ("success", "failure") if isinstance(given.get(key), str)}
    start = given.get("start")
    script = [start if isinstance(start, str) else ""]
    return {**body, "external": {**given, **lists}, "script": script}
