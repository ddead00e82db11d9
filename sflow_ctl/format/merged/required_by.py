"""`required_by`: the other direction of `depends_on`. Called by the loader after files are merged and overridden.

The names are kept beside the entries, so that `compose` writes the files' own keys.
"""

from typing import Any

from protocol.errors import Finding
from sflow_ctl.format.merged.items import Item


def apply_required_by(tasks: list[Item]) -> list[Finding]:
    """Let tasks wait for those whose `required_by` names them; return notes about names that were passed over."""
    by_name = {task.name: task for task in tasks}
    notes = []
    for task in tasks:
        names = task.body.get("required_by")
        for index, name in enumerate(names if isinstance(names, list) else ()):
            other = by_name.get(name) if isinstance(name, str) else None
            if isinstance(name, str) and (other is None or other is task):
                why = "itself" if other is task else "not a task of this workflow"
                what = f'task "{task.name}" is required by "{name}", which is {why}: passed over'
                notes.append(Finding("required-by", what, task.where("required_by", index)))
            elif other is not None and task.name not in (*_waits_for(other), *other.required_by):
                position = len(_waits_for(other)) + len(other.required_by)
                other.required_by += (task.name,)
                place = task.where("required_by", index).partition("  ")[0]
                other.note_given(("depends_on", position), place)
    return notes


def with_required(item: Item) -> dict[str, Any]:
    """Return an entry's body, for a task with the dependencies that other tasks' `required_by` adds."""
    if not item.required_by:
        return item.body
    return {**item.body, "depends_on": [*(item.body.get("depends_on") or []), *item.required_by]}


def _waits_for(task: Item) -> list[Any]:
    """Return the names in a task's `depends_on`, in any form."""
    written = task.body.get("depends_on")
    members = written if isinstance(written, list) else []
    return [one.get("task") if isinstance(one, dict) else one for one in members]
