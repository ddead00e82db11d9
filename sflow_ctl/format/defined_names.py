"""Finds the names that `--set` and `--artifact` can change in some files, without checking the rest. Serves sheets."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from protocol.errors import SpecError
from sflow_ctl.format.loader import read_sources
from sflow_ctl.format.merged.files import merge, named_items


class DefinedNames(Struct, frozen=True):
    """Names as overrides spell them: a task's own variable is `TASK.KEY`."""

    variables: frozenset[str] = frozenset()
    artifacts: frozenset[str] = frozenset()


def defined_names(paths: Sequence[Path]) -> DefinedNames:
    """Return the names in these files together. Raises: SpecError for files that cannot be read as YAML."""
    sources, findings = read_sources(paths)
    if findings:
        raise SpecError(findings)
    merged = merge(sources)
    own = {
        f"{task.name}.{variable.name}"
        for task in merged.tasks
        for variable in named_items(task.source, task.path, task.body.get("variables"), [])
    }
    variables = {item.name for item in (*merged.sections["variables"], *merged.workflow_variables)}
    return DefinedNames(
        frozenset(own | variables), frozenset(item.name for item in merged.sections["artifacts"])
    )
