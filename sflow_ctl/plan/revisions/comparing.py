"""Compares the plan of a live run with another one, task by task: what starts again, and what continues. Pure.

Two plans have the same work for a task as a resume sees it (`plan/same_work.py`), with three differences: a variable of the
workflow counts for the tasks that name it, a probe does not count, and a place does where a process cannot be moved. Called by
`core/actions/revising` and, for people, by `runtime/revising`.
"""

from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from sflow_ctl.plan.artifact_mentions import PlannedArtifactUse, strings_in
from sflow_ctl.plan.graph import dependency_names, topological_order
from sflow_ctl.plan.model import DeferredExpression, Plan, PlannedTask
from sflow_ctl.plan.revisions.variable_use import SharedVariables
from sflow_ctl.plan.same_work import Work, differences

Kind = Literal["changed", "dependent", "new", "removed", "updated", "unchanged"]
"""`dependent` starts again because of what it needs; `updated` has other rules, and its process continues."""
STARTS_AGAIN = frozenset[Kind]({"changed", "dependent"})

_OTHER_PROCESS = {
    "backend": "backend",
    "needs": "CPUs and memory",
    "claims_nodes_until": "release of nodes",
    "lends_gpus": "release of GPUs",
    "keeps_gpus": "release of GPUs",
    "finally_when": "time at the end of the run",
}
"""Fields that are not work, and that a task which runs cannot take on."""
_RULES = {
    "timeout_s": "timeout",
    "deadlines_s": "deadline",
    "wait_s": "wait for the other processes",
    "retries": "retries",
    "restart": "restart",
    "on_failure": "on_failure",
    "on_node_lost": "on_node_lost",
    "min_ready": "min_ready",
    "quorum": "success",
    "is_main": "main",
    "console": "console",
    "uploads": "uploads",
}
"""Fields that a task which runs takes on at once."""
_NEXT_RULES = {"probes": "probes", "hang": "hang", "stopping": "stop"}
"""Fields that an agent has with the attempt: another value counts from the next one on."""


class PlanChange(NamedTuple):
    """What another plan makes of a task."""

    task: str
    kind: Kind
    why: tuple[str, ...] = ()
    """Of a changed or updated one: each difference as a sentence without its subject."""
    needs: str = ""
    """Of a dependent one: the task that it needs."""


class TasksNow(NamedTuple):
    """What decides beside the plans: how far tasks are."""

    unready: Collection[str] = ()
    """Tasks that run and wait for a readiness probe."""
    stopped: Collection[str] = ()
    """Tasks that an operator has stopped."""
    served: Collection[str] = ()
    """Services that have completed: what they served had ended."""


def compare(old: Plan, new: Plan, now: TasksNow) -> dict[str, PlanChange]:
    """Return what the new plan makes of each task, in its order, then of those that it does not have."""
    comparison = _Comparison(old, new, now)
    changes = {task.name: comparison.of(task) for task in new.tasks}
    _follow(changes, new, now)
    _serve_again(changes, new, now)
    wanted = changes.keys()
    changes |= {
        task.name: PlanChange(task.name, "removed")
        for task in old.tasks
        if task.name not in wanted and not task.removed_in
    }
    return changes


def _follow(changes: dict[str, PlanChange], new: Plan, now: TasksNow) -> None:
    """Have the tasks start again that need one which does; not those that an operator has stopped."""
    members = new.members()
    needs = {task.name: list(dependency_names(task, members)) for task in new.tasks}
    for name in topological_order(needs):
        if changes[name].kind not in ("unchanged", "updated") or name in now.stopped:
            continue
        for other in needs[name]:
            if changes[other].kind in STARTS_AGAIN:
                changes[name] = changes[name]._replace(kind="dependent", needs=other)
                break


def _serve_again(changes: dict[str, PlanChange], new: Plan, now: TasksNow) -> None:
    """Have services start again that have completed, and that a task needs which starts; all else that needs them stays."""
    members = new.members() if now.served else {}
    needs = {task.name: list(dependency_names(task, members)) for task in new.tasks if now.served}
    starting = [name for name in needs if changes[name].kind in (*STARTS_AGAIN, "new")]
    while starting:
        name = starting.pop()
        for other in needs[name]:
            if other in now.served and changes[other].kind in ("unchanged", "updated"):
                why = f"{name}, which needs it, starts{' again' if changes[name].kind != 'new' else ''}"
                changes[other] = changes[other]._replace(kind="changed", why=(why,))
                starting.append(other)


class _Comparison:
    def __init__(self, old: Plan, new: Plan, now: TasksNow) -> None:
        self._now = now
        self._before = {task.name: task for task in old.tasks if not task.removed_in}
        self._artifacts = PlannedArtifactUse(old), PlannedArtifactUse(new)
        self._variables = SharedVariables(old), SharedVariables(new)
        self._replicas = _names_of(old), _names_of(new)
        self._is_same_around = (old.artifacts, old.contents, old.files, old.variables, self._replicas[0]) == (
            new.artifacts, new.contents, new.files, new.variables, self._replicas[1],
        )  # fmt: skip

    def of(self, new: PlannedTask) -> PlanChange:
        """Return what becomes of a task of the new plan, as far as it is about the task itself."""
        old = self._before.get(new.name)
        if old is None:
            return PlanChange(new.name, "new")
        if self._is_same_around and old == new:
            return PlanChange(new.name, "unchanged")
        why = tuple(dict.fromkeys(self._work(old, new)))
        if why:
            return PlanChange(new.name, "changed", why)
        rules = tuple(_rules(old, new))
        return PlanChange(new.name, "updated" if rules else "unchanged", rules)

    def _work(self, old: PlannedTask, new: PlannedTask) -> Iterator[str]:
        """Yield why the task starts again."""
        works = (
            Work(self._comparable(one, old, new), use)
            for one, use in zip((old, new), self._artifacts, strict=True)
        )
        yield from differences(*works)
        for name, noun in _OTHER_PROCESS.items():
            if getattr(old, name) != getattr(new, name):
                yield f"its {noun} changed"
        one, other = old.placement, new.placement
        if (one.is_shared, one.pack, one.near) != (other.is_shared, other.pack, other.near):
            yield "its choice of GPUs changed"
        if old.is_service != new.is_service:
            yield f"it is {'a service' if new.is_service else 'no service'} now"
        if old.probes != new.probes and new.name in self._now.unready:
            yield "its probes changed before it was ready"
        needed = {one.task for one in old.depends_on}
        if more := list(dict.fromkeys(one.task for one in new.depends_on if one.task not in needed)):
            yield f"it needs {', '.join(more)} as well"
        for base in new.uses_ports:
            if self._replicas[0].get(base) != self._replicas[1].get(base):
                yield f"the replicas of {base}, whose ports it uses, are others"

    def _comparable(self, task: PlannedTask, old: PlannedTask, new: PlannedTask) -> PlannedTask:
        """Return a task without what does not count here, or is compared in another way."""
        unused = {
            name
            for name in old.env.keys() | new.env.keys()
            if old.env.get(name) != new.env.get(name) and self._is_unused(name, old, new)
        }
        env = {name: value for name, value in task.env.items() if name not in unused}
        return replace(
            task,
            env=env,
            probes=(),
            deferred_tcp_ports=(),
            depends_on=(),
            deferred=_without_those_of_probes(task),
        )

    def _is_unused(self, name: str, old: PlannedTask, new: PlannedTask) -> bool:
        """Return whether a variable is the workflow's in both plans, and the task uses it in none of them."""
        before, after = self._variables
        if not (before.is_shared(old, name) and after.is_shared(new, name)):
            return False
        return not (before.uses(old, name) or after.uses(new, name))


def _names_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the names of the replicas of tasks whose number may change."""
    return {
        base: tuple(one.name for one in members)
        for base, members in plan.members().items()
        if members[0].is_replicated
    }


def _rules(old: PlannedTask, new: PlannedTask) -> Iterator[str]:
    """Yield what changes for a task whose process continues."""
    for name, noun in _RULES.items():
        one, other = getattr(old, name), getattr(new, name)
        if one != other:
            plain = _is_plain(one) and _is_plain(other)
            yield f"{noun} {_shown(one)} -> {_shown(other)}" if plain else f"{noun} changed"
    for name, noun in _NEXT_RULES.items():
        if getattr(old, name) != getattr(new, name):
            yield f"{noun} changed, from its next attempt on"
    if {one.task for one in old.depends_on} - {one.task for one in new.depends_on}:
        yield "depends_on has fewer tasks"
    elif old.depends_on != new.depends_on:
        yield "depends_on changed"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _without_those_of_probes(task: PlannedTask) -> tuple[DeferredExpression, ...]:
    """Return the deferred expressions that more than the probes of a task have."""
    if not task.deferred:
        return ()
    rest = msgspec.to_builtins((task.argv, task.script, task.env, task.success, task.uploads), enc_hook=str)
    texts = list(strings_in(rest))
    return tuple(one for one in task.deferred if any(one.placeholder in text for text in texts))
