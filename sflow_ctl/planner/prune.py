"""Reduces a plan to some of its tasks: those that were named, and those that they need. Also what a run shows of them."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from protocol.errors import Finding, PlanError
from protocol.messages.checks import LogCheck
from sflow_ctl.format.checking import nearest
from sflow_ctl.plan.graph import dependency_names
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from sflow_ctl.planner.deferred import needs_outputs, tasks_named


def pruned(plan: Plan, names: Sequence[str], skip_dependencies: bool) -> Plan:
    """Return the plan of the tasks called `names`, concrete or as written; their placements stay as planned.

    The tasks that they wait for or watch are included, unless `skip_dependencies`. Raises: PlanError for an
    unknown name, and for a task that needs one that is left out.
    """
    wanted = _named(plan, names)
    if not skip_dependencies:
        wanted = _with_needs(plan, wanted)
    kept = [task for task in plan.tasks if task.name in wanted]
    findings = [finding for task in kept for finding in _missing(plan, task, wanted)]
    if findings:
        raise PlanError(findings)
    members = plan.members()
    tasks = tuple(
        msgspec.structs.replace(task, depends_on=tuple(_dependencies(task, members, wanted))) for task in kept
    )
    # Conditions on the whole run do not apply to a part of it.
    return msgspec.structs.replace(plan, tasks=tasks, success=None)


def showing_only(plan: Plan, names: Sequence[str]) -> Plan:
    """Return the plan of which the console shows the output of the tasks called `names` alone, by name or pattern.

    Raises: PlanError for a name that no task has.
    """
    chosen = _named(plan, names, "--only", are_patterns=True)
    tasks = tuple(
        msgspec.structs.replace(task, console="all" if task.name in chosen else "none") for task in plan.tasks
    )
    return msgspec.structs.replace(plan, tasks=tasks)


def _named(
    plan: Plan, names: Sequence[str], option: str = "--task", *, are_patterns: bool = False
) -> set[str]:
    findings = []
    found: set[str] = set()
    for name in names:
        fitting = [task.name for task in plan.tasks if name in (task.name, task.base)]
        if not fitting and are_patterns:
            fitting = fnmatch.filter([task.name for task in plan.tasks], name)
        found.update(fitting)
        if not fitting:
            known = [*dict.fromkeys(task.base for task in plan.tasks), *(task.name for task in plan.tasks)]
            guess = nearest(name, known)
            hint = f'did you mean "{guess}"?' if guess else f"tasks: {', '.join(dict.fromkeys(known[:20]))}"
            findings.append(Finding("unknown-task", f'there is no task "{name}"', f"{option} {name}", hint))
    if findings:
        raise PlanError(findings)
    return found


def _with_needs(plan: Plan, wanted: set[str]) -> set[str]:
    members = plan.members()
    by_name = {task.name: task for task in plan.tasks}
    complete: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name not in complete:
            complete.add(name)
            task = by_name[name]
            pending += [*dependency_names(task, members), *_watched(task), *_with_ports(task, members)]
    return complete


def _watched(task: PlannedTask) -> Iterator[str]:
    checks = (check for probe in task.probes for check in probe.all_checks)
    return (check.task for check in checks if isinstance(check, LogCheck) and check.task is not None)


def _with_ports(task: PlannedTask, members: Mapping[str, Sequence[PlannedTask]]) -> Iterator[str]:
    """Return the concrete tasks whose ports it uses."""
    for name in task.uses_ports:
        yield from (member.name for member in members[name]) if name in members else (name,)


def _missing(plan: Plan, task: PlannedTask, wanted: set[str]) -> Iterator[Finding]:
    where, hint = f"--task {task.name}", "run it too, or leave out --skip-dependencies"
    for name in _watched(task):
        if name not in wanted:
            what = f'a probe of task "{task.name}" watches the log of "{name}", which would not run'
            yield Finding("task-left-out", what, where, hint)
    for name in _with_ports(task, plan.members()) if task.uses_ports else ():
        if name not in wanted:
            what = f'task "{task.name}" uses a port of "{name}", which would not run'
            yield Finding("task-left-out", what, where, hint)
    for deferred in task.deferred:
        if not needs_outputs(deferred.placeholder):
            continue
        for named in tasks_named(deferred.placeholder):
            used = {other.name for other in plan.tasks if named in (other.name, other.base)}
            if not used <= wanted:
                what = f'task "{task.name}" uses the outputs of "{named}", which would not run'
                yield Finding("task-left-out", what, where, hint)


def _dependencies(
    task: PlannedTask, members: dict[str, Sequence[PlannedTask]], wanted: set[str]
) -> Iterator[Dependency]:
    for dependency in task.depends_on:
        if not dependency.is_group:
            if dependency.task in wanted:
                yield dependency
            continue
        left = [member.name for member in members[dependency.task] if member.name in wanted]
        if len(left) == len(members[dependency.task]):
            yield dependency
        else:
            yield from (Dependency(task=name, until=dependency.until) for name in left)
