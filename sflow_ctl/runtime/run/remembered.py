"""The options of a run as `run.json` keeps them, so that a resume runs the same tasks with the same values.

Written by `workflow.py`; read by `cli/resuming.py`, where options of the resume itself override remembered ones.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from protocol.errors import UsageError
from sflow_ctl.runtime.run.options import FleetOptions, RunOptions, TaskOptions, WorkflowOptions

_NOT_KEPT = {"files", "are_files_given", "job_id", "workspace_dir", "settings", "reuse", "reuse_anyway"}
"""Options that are kept in another way, or not at all: the composed workflow is in the run directory.

The Slurm job is that of each controller.
"""
_ADDED = {"overrides", "artifacts", "missable", "labels"}
"""For these, options of a resume are added after the remembered ones, and win."""
_FLAGS = {
    "overrides": "--set",
    "artifacts": "--artifact",
    "missable": "--missable-tasks",
    "labels": "--label",
    "tasks": "--task",
    "refuses_ignored": "--strict",
    "ignored_backends": "--ignore-backend",
}


def remember(options: RunOptions, directory: Path) -> dict[str, Any]:
    """Return every option that a resume needs, as plain data: those that differ from the defaults.

    `directory` is the run's.
    """
    workspace = options.workflow.workspace_dir
    kept: dict[str, Any] = {"workspace_dir": str(workspace)}
    if directory.is_relative_to(workspace):
        kept["directory_in_workspace"] = str(directory.relative_to(workspace))
    for group in (options.workflow, options.fleet, options.tasks):
        values = {name: value for name, value in asdict(group).items() if name not in _NOT_KEPT}
        kept |= {name: value for name, value in values.items() if value != _default(group, name)}
    kept["settings"] = {k: v for k, v in options.workflow.settings.items() if k != "output_dir"}
    return kept


def recall(options: RunOptions, kept: Mapping[str, Any], directory: Path) -> RunOptions:
    """Return a resume's options, completed by the remembered ones of the run in `directory`."""
    workflow, given = options.workflow, options.workflow.workspace_dir
    if not workflow.are_files_given:  # the run's own copy has the values of its inputs, of files too
        own = [one for one in kept.get("overrides", ()) if not one.startswith("inputs.")]
        kept = {**kept, "overrides": own}
    is_default_place = given == Path.cwd()
    recalled = replace(
        options,
        workflow=_completed(workflow, kept),
        fleet=_completed(options.fleet, kept),
        tasks=_completed(options.tasks, kept),
    )
    workspace = _workspace(kept, directory) if is_default_place else given
    settings = {**kept.get("settings", {}), **workflow.settings, "output_dir": str(directory.parent)}
    return replace(recalled, workflow=replace(recalled.workflow, workspace_dir=workspace, settings=settings))


def _workspace(kept: Mapping[str, Any], directory: Path) -> Path:
    """Return the workspace of the run that is in `directory` now.

    Raises: UsageError when it is gone, and was not moved together with the run directory.
    """
    here = Path.cwd()
    old = Path(kept.get("workspace_dir", here))
    if old.is_dir():
        return old
    inside = Path(kept.get("directory_in_workspace", ""))
    if inside.parts and directory.parts[-len(inside.parts) :] == inside.parts:
        return Path(*directory.parts[: -len(inside.parts)])
    raise UsageError.of(
        "no-workspace",
        f"the workspace of the run, {old}, does not exist any more",
        hint="say where it is now with --workspace-dir",
    )


def options_text(kept: Mapping[str, Any]) -> str:
    """Return the remembered options as a command line has them; empty when there are none."""
    words: list[str] = []
    for name, value in {**kept, **kept.get("settings", {})}.items():
        if name in ("settings", "workspace_dir", "directory_in_workspace"):
            continue
        flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
        if value is True:
            words.append(flag)
        elif value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"{flag} {shlex.quote(str(one))}" for one in values]
    return " ".join(words)


def _completed(group: Any, kept: Mapping[str, Any]) -> Any:
    changes: dict[str, Any] = {}
    for name in group.__struct_fields__:
        if name not in kept or name in ("workspace_dir", "settings"):
            continue
        value = getattr(group, name)
        old = tuple(kept[name]) if isinstance(value, tuple) else kept[name]
        if name in _ADDED:
            changes[name] = (*old, *value)
        elif value == _default(group, name):
            changes[name] = old
    return replace(group, **changes)


def _default(group: WorkflowOptions | FleetOptions | TaskOptions, name: str) -> Any:
    if isinstance(group, WorkflowOptions):
        return getattr(WorkflowOptions(files=(), workspace_dir=Path()), name)
    return getattr(type(group)(), name)
