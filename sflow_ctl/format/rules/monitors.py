"""Rules for monitors and windows: active scopes, findable windows, tasks that exist, names that stay free for files."""

import re
from collections.abc import Callable, Iterator, Set

from protocol.errors import Finding
from protocol.messages.telemetry import MAX_NAME
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.plan.monitors import mark_patterns

Where = Callable[..., str]
Path = tuple[str | int, ...]
DIRECTORY, OVERVIEW, OF_WORKFLOW = "sflow_monitor", "sflow_monitor.log", "workflow"
"""Names in the run directory, and below `sflow_monitor/lifecycle`: as in sflow, whose readers look for them."""


def monitor_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check the monitors of the workflow and of its tasks."""
    known = {task.name for task in document.workflow.tasks}
    whole = document.workflow.monitor
    if whole is not None:
        yield from _of_one(whole, "the workflow", ("workflow", "monitor"), known, where)
        if whole.window is not None:
            what = "the workflow's monitor has a window, which is searched in the log of a task"
            place = where("workflow", "monitor", "window")
            yield Finding("monitor-window", what, place, "give the window to a task's monitor")
    for task in document.workflow.tasks:
        if task.monitor is not None:
            path = ("tasks", task.name, "monitor")
            yield from _of_one(task.monitor, f'task "{task.name}"', path, known, where)


def monitor_name_findings(
    names: Set[str], *, has_any: bool, has_whole: bool, where: Where
) -> Iterator[Finding]:
    """Check that no task has a name that the files of monitors need; `has_whole` is the workflow's own monitor."""
    taken = [DIRECTORY, OVERVIEW] if has_any else []
    for name in [*taken, OF_WORKFLOW] if has_whole else taken:
        if name in names:
            of = f"{DIRECTORY}/lifecycle/{name}" if name == OF_WORKFLOW else name
            what = f'the files of monitors are in "{of}" of the run directory, and task "{name}" is called so'
            yield Finding("monitor-name", what, where("tasks", name, "name"), "rename the task")


def _of_one(
    monitor: schema.Monitor, owner: str, path: Path, known: Set[str], where: Where
) -> Iterator[Finding]:
    yield from _scope_findings(monitor, owner, path, where)
    for index, name in enumerate(monitor.resources.used_by_tasks if monitor.resources else ()):
        if name not in known:
            what = f'the monitor of {owner} refers to unknown task "{name}"'
            hint = guess_hint(name, sorted(known), f"tasks here: {', '.join(sorted(known)[:10])}")
            place = where(*path, "resources", "used_by_tasks", index)
            yield Finding("unknown-monitored-task", what, place, hint)
    yield from _window_findings(monitor, owner, path, where)


def _scope_findings(monitor: schema.Monitor, owner: str, path: Path, where: Where) -> Iterator[Finding]:
    scopes = monitor.scopes
    if scopes is None:
        return
    given = [getattr(scopes, name) for name in scopes.__struct_fields__]
    if not any(one is not None and one.enabled not in (False, "false") for one in given):
        what = f"the monitor of {owner}: no scope is active"
        hint = f"name one of {', '.join(scopes.__struct_fields__)}, or drop scopes for all of them"
        yield Finding("monitor-scopes", what, where(*path, "scopes"), hint)
    fields = scopes.gpu.fields if scopes.gpu is not None else None
    if fields is not None and fields[:1] != ["index"]:
        what = f"the monitor of {owner}: the first of scopes.gpu.fields must be index"
        place = where(*path, "scopes", "gpu", "fields")
        yield Finding("monitor-fields", what, place, f"[index, {', '.join(fields)}]")
    if scopes.custom is not None and not any(line.strip() for line in scopes.custom.script):
        what = f"the monitor of {owner}: the script of its custom scope is empty"
        yield Finding("monitor-scopes", what, where(*path, "scopes", "custom", "script"), "drop the scope")


def _window_findings(monitor: schema.Monitor, owner: str, path: Path, where: Where) -> Iterator[Finding]:
    window = monitor.window
    if window is None:
        return
    if monitor.report is not None and monitor.report.enabled in (False, "false"):
        what = f"the monitor of {owner} has a window, and its report is not enabled"
        yield Finding("monitor-window", what, where(*path, "window"), "a window is a part of the report")
    yield from _side_findings(window, f"the window of the monitor of {owner}", (*path, "window"), where)


def window_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check the named windows of tasks."""
    for task in document.workflow.tasks:
        names: set[str] = set()
        for index, window in enumerate(task.windows):
            path = ("tasks", task.name, "windows", index)
            name = window.name.strip()
            if not name or name in names or len(name) > MAX_NAME or not name.isprintable():
                what = (
                    f'the name "{window.name}" of a window of task "{task.name}" is empty, taken or too long'
                )
                hint = f"give each window of a task a name of its own, of at most {MAX_NAME} letters"
                yield Finding("window-name", what, where(*path, "name"), hint)
            names.add(name)
            yield from _side_findings(window, f'window "{name}" of task "{task.name}"', path, where)


def _side_findings(
    window: schema.MonitorWindow | schema.NamedWindow, owner: str, path: Path, where: Where
) -> Iterator[Finding]:
    for side in ("start", "end"):
        place = where(*path, side)
        patterns = written_patterns(getattr(window, side))
        if not patterns or not all(patterns):
            what = f"{owner} has an empty {side}"
            yield Finding("monitor-window", what, place, "give a text that is in the line, or re:EXPRESSION")
            continue
        for one in mark_patterns(patterns, is_last=False).patterns:
            try:
                re.compile(one.pattern if one.is_regex else "")
            except re.error as error:
                what = f'"{one.pattern}" in {owner} is not a regular expression'
                yield Finding("bad-regex", f"{what}: {error}", place)


def written_patterns(mark: str | list[str] | schema.WindowMark) -> list[str]:
    """Return the patterns of one end of a window, however it is written."""
    if isinstance(mark, str):
        return [mark]
    return mark if isinstance(mark, list) else mark.pattern
