"""Phase: every concrete task, completely planned. Combines the parts from `launch/` and `tasks/`."""

import os.path
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from protocol.messages.rank_spec import Success
from protocol.messages.uploads import StorageTarget
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START, as_text
from sflow_ctl.plan.copies.task_list import Copies, Part, kind_of, listed_tasks
from sflow_ctl.plan.model import DeferredExpression, PlannedNode, PlannedTask
from sflow_ctl.plan.results import PlannedFile
from sflow_ctl.planner.deferred import TaskNamespace, leasing
from sflow_ctl.planner.findings import Findings
from sflow_ctl.planner.launch.plan import (
    LaunchPlan,
    LaunchSetting,
    plan_launch,
    refuse_elsewhere,
    warn_of_idle_gpus,
)
from sflow_ctl.planner.phases.artifacts import PlannedArtifacts
from sflow_ctl.planner.phases.backends import PlannedBackends
from sflow_ctl.planner.phases.graph import Graph, Replica
from sflow_ctl.planner.phases.nodes import job_of
from sflow_ctl.planner.phases.workflow import WorkflowPolicy
from sflow_ctl.planner.placement.moves import movable, of_launch, settled, task_namespace
from sflow_ctl.planner.placement.placed import PlacedTask, in_order
from sflow_ctl.planner.placement.requests import keeps_gpus, lends_gpus, port_counts
from sflow_ctl.planner.source import PlanInput, Scope
from sflow_ctl.planner.tasks.copies import EqualCopies, swept_texts
from sflow_ctl.planner.tasks.environment import reserved, shared_environment, task_environment
from sflow_ctl.planner.tasks.outputs import plan_outputs
from sflow_ctl.planner.tasks.policies import EndPolicy, end_policy
from sflow_ctl.planner.tasks.ports import check_sizes, plan_files
from sflow_ctl.planner.tasks.results import plan_result
from sflow_ctl.planner.tasks.scopes import TaskScope, TaskScopes
from sflow_ctl.planner.tasks.scripts import Scripts
from sflow_ctl.planner.tasks.success import plan_success
from sflow_ctl.planner.tasks.uploads import plan_uploads
from sflow_ctl.planner.tasks.watch import deferred_probes, plan_watch


class PlannedTasks(Struct, frozen=True):
    """All tasks of the plan, and what their deferred expressions see of each other."""

    parts: Sequence[Part]
    views: Mapping[str, Any]
    """Empty if no expression is deferred."""

    @property
    def tasks(self) -> Sequence[PlannedTask]:
        """Return all tasks, in file and replica order."""
        return listed_tasks(self.parts)


class _Setting(Struct, frozen=True):
    """The facts that all tasks are planned with."""

    source: PlanInput
    backends: PlannedBackends
    artifacts: PlannedArtifacts
    graph: Graph
    policy: WorkflowPolicy
    scripts: Scripts
    scopes: TaskScopes
    launch: LaunchSetting
    environment: Mapping[str, str]
    """The variables of all tasks."""
    storage: Sequence[StorageTarget]
    copies: EqualCopies
    end_policies: dict[tuple[str, int], EndPolicy] = {}
    """Those of tasks whose replicas all have the same, by task, and by what a cell of a sweep has made of it."""
    equal_policies: dict[EndPolicy, EndPolicy] = {}
    """Each once: those of 100,000 tasks are few."""


def plan_tasks(
    source: PlanInput,
    backends: PlannedBackends,
    artifacts: PlannedArtifacts,
    scope: Scope,
    graph: Graph,
    placed: Sequence[PlacedTask],
    policy: WorkflowPolicy,
    storage: Sequence[StorageTarget],
    findings: Findings,
) -> PlannedTasks:
    """Plan all tasks, in file and replica order. Problems are findings."""
    flexible = {one.task.name for one in placed if one.placement.is_flexible}
    scripts = Scripts(source.tasks, graph.replicas_of, flexible, port_counts(placed))
    views = TaskNamespace(
        task_namespace(backends, graph, placed, has_outputs=bool(source.document.workflow.outputs)),
        movable(source, backends, placed),
        leasing(source.tasks, graph.replicas_of),
    )
    exported = source.rules.exported(scope.values)
    environment = shared_environment(exported, artifacts.paths, _run_environment(source))
    _warn_of_reserved((*exported, *artifacts.paths), findings)
    first_items = {one.task.name: item for one in graph.tasks if (item := one.first_item) is not None}
    scopes = TaskScopes(source, scope, scripts, views, findings, first_items)
    setting = _Setting(
        source,
        backends,
        artifacts,
        graph,
        policy,
        scripts,
        scopes,
        LaunchSetting.of(source, backends, artifacts),
        environment,
        storage,
        EqualCopies.of(source.document, has_computed=scopes.has_computed, hidden=scope.namespaces.keys()),
    )
    planned = [part for one in in_order(placed) for part in _plan_copies(setting, one, findings)]
    parts = [part for one in planned for part in _settled(one, views)]
    are_views_used = bool(source.document.workflow.outputs) or any(map(_has_deferred, parts))
    return PlannedTasks(parts, scripts.views(views) if are_views_used else {})


def _settled(part: Part, views: TaskNamespace) -> Sequence[Part]:
    """Return the part with what is certain of its places by now; copy by copy, if one of them is another case."""
    if isinstance(part, PlannedTask):
        return (settled(part, views),)
    if part.first.elsewhere is None or not views.is_any_place_used(part.first.base, part.names):
        return (part,)
    return [settled(task, views) for task in part]


def _warn_of_reserved(names: Sequence[str], findings: Findings) -> None:
    for name in reserved(names):
        what = (
            f'variable "{name}" has a reserved name (SFLOW_...) and does not reach the environment of tasks'
        )
        where = findings.loaded.where_any(("workflow.variables", "variables", "artifacts"), name)
        findings.warn(
            "reserved-name", what, where, f"rename it, or write ${{{{ variables.{name} }}}} in scripts"
        )


def _has_deferred(part: Part) -> bool:
    task = kind_of(part)
    if task.foreach is not None and task.foreach.late is None and task.foreach.is_quick and task.when is None:
        return False  # it asks for nothing but its item
    return bool(
        task.deferred or task.inputs or task.when or task.block or (task.foreach and task.foreach.late)
    ) or any(file.names is not None for file in task.files)


def _run_environment(source: PlanInput) -> dict[str, str]:
    context = source.context
    return {
        "SFLOW_WORKSPACE_DIR": context.workspace_dir,
        "SFLOW_OUTPUT_DIR": context.output_dir,
        "SFLOW_WORKFLOW_OUTPUT_DIR": context.run_directory,
        "SFLOW_WORKFLOW_RESULT_FILE": f"{context.run_directory}/results.json",
        "SFLOW_WORKFLOW_NAME": source.document.workflow.name,
        "SFLOW_RUN_ID": context.run_id,
    }


def _plan_copies(setting: _Setting, placed: PlacedTask, findings: Findings) -> Iterator[Part]:
    """Plan what is placed, as one part if its copies are alike. What cannot be planned becomes a finding."""
    first = _plan_copy(setting, placed, findings)
    if first is not None and placed.count > 1 and setting.copies.are_alike(placed, first):
        chain_until = setting.graph.chain_until if placed.expanded.is_sequential else None
        yield Copies(first, placed.count, chain_until, placed.expanded.items)
        return
    if first is not None:
        yield first
    if placed.count > 1:
        copies = (_plan_copy(setting, each, findings) for each in placed.each(1))
        yield from (copy for copy in copies if copy is not None)


def _plan_copy(setting: _Setting, placed: PlacedTask, findings: Findings) -> PlannedTask | None:
    """Plan one copy, from an equal one if there is any; None if that failed and became a finding."""
    copy = setting.copies.like(placed, setting.graph.waits_for(placed.expanded, placed.replica))
    if copy is None:
        copy = _plan_task(setting, placed, findings)
        if copy is not None and (copy.foreach is not None or placed.task.block is not None):
            copy = _with_items(setting, placed, copy, findings)
        if copy is not None:
            setting.copies.learn(placed, copy)
    return copy


def _with_items(
    setting: _Setting, placed: PlacedTask, copy: PlannedTask, findings: Findings
) -> PlannedTask | None:
    """Return a copy with what is known of its list; None if that failed and became a finding."""
    from sflow_ctl.planner.growing.items import completed  # few tasks have items

    with findings.collecting("tasks", placed.task.name, subject=f'task "{placed.task.name}"'):
        scope = setting.scopes.of(placed.task, placed.replica)
        return completed(copy, placed.task, placed.expanded, scope, setting.scripts)
    return None


def _plan_task(setting: _Setting, placed: PlacedTask, findings: Findings) -> PlannedTask | None:
    """Plan one copy; None if that failed and became a finding."""
    task, replica = placed.task, placed.replica
    with findings.collecting("tasks", task.name, subject=f'task "{replica.name}"'):
        scope = setting.scopes.of(task, replica)
        nodes = _nodes(setting, placed)
        env = task_environment(
            shared=setting.environment,
            nodes=nodes,
            own=scope.own.values,
            replica=replica,
            gpus=placed.placement.gpus,
            run_directory=setting.source.context.run_directory,
            backend=setting.backends.nodes_of[placed.backend.name],
            job_id=job_of(setting.backends.nodes_of[placed.backend.name], setting.source.context)
            if placed.backend.type == "slurm"
            else None,
        )
        script, deferred = setting.scripts.script(task, replica.name, scope.names)
        launch = plan_launch(setting.launch, placed, scope.value, nodes, env, script)
        refuse_elsewhere(task, launch)
        warn_of_idle_gpus(placed, launch, findings)
        _check_on_hosts(placed, launch, findings)
        probes = deferred_probes(setting.source.context, setting.scripts, placed, scope.names, nodes, env)
        watch = plan_watch(task, scope.value, probes, setting.graph.replicas_of, setting.source.rules)
        policy = _end_policy(setting, placed, scope)
        success, more = _success(setting, scope, env["SFLOW_TASK_OUTPUT_DIR"])
        uploads, in_uploads = plan_uploads(
            task, scope, setting.scripts, setting.storage, env, nodes, findings
        )
        return PlannedTask(
            name=replica.name,
            base=task.name,
            replica_index=replica.index,
            is_replicated=placed.expanded.is_replicated,
            sweep=swept_texts(replica),
            **placed.expanded.items_of(replica),
            backend=placed.backend.name,
            script=script,
            depends_on=setting.graph.waits_for(placed.expanded, replica),
            placement=placed.placement,
            **of_launch(placed.alternative, placed.placement, launch, setting.backends.nodes)._asdict(),
            lends_gpus=lends_gpus(task),
            keeps_gpus=keeps_gpus(task),
            **placed.claim._asdict(),
            ports=placed.ports,
            **setting.copies.fields_of(launch, setting.environment, task, replica),
            **msgspec.structs.asdict(policy),
            **msgspec.structs.asdict(watch),
            **_handover(setting, scope, replica),
            outputs=plan_outputs(task, scope.value, findings),
            result=plan_result(task, scope.value, findings) if task.result is not None else None,
            success=success,
            uploads=uploads,
            required_paths=_required_paths(setting, task, launch),
            deferred=(
                late := _distinct((*scope.own.deferred, *deferred, *more, *in_uploads, *probes.deferred))
            ),
            files=(files := _files(setting, scope)),
            where=findings.loaded.where("tasks", task.name) if late or files or _has_late_parts(task) else "",
        )
    return None


def _has_late_parts(task: schema.Task) -> bool:
    return bool(task.inputs or task.when or task.foreach or task.block)


def _check_on_hosts(placed: PlacedTask, launch: LaunchPlan, findings: Findings) -> None:
    if placed.backend.hosts:
        from sflow_ctl.planner.launch.docker_hosts import check_on_hosts  # few backends have some

        check_on_hosts(placed.task, placed.backend, launch.container, launch.operator, findings)


def _distinct(deferred: Sequence[DeferredExpression]) -> tuple[DeferredExpression, ...]:
    return tuple({one.placeholder: one for one in deferred}.values())


def _nodes(setting: _Setting, placed: PlacedTask) -> list[PlannedNode]:
    """Return the nodes of a fixed placement; none for a flexible one."""
    if placed.placement.is_flexible:
        return []
    return [setting.backends.nodes[index] for index in placed.placement.nodes]


def _required_paths(setting: _Setting, task: schema.Task, launch: LaunchPlan) -> tuple[tuple[str, str], ...]:
    if launch.launch_kind == "ssh" or (launch.container is not None and setting.backends.of(task).hosts):
        return ()  # not on this machine
    return setting.artifacts.required_paths.get(task.name, ())


def _end_policy(setting: _Setting, placed: PlacedTask, scope: TaskScope) -> EndPolicy:
    """Return how a task ends; replicas share it unless a field has an expression, which may differ between them."""
    task = (placed.task.name, 0 if placed.replica.task is None else id(placed.replica.task))
    known = setting.end_policies.get(task)
    if known is not None:
        return known
    has_expressions = False

    def value(field: Any) -> Any:
        nonlocal has_expressions
        has_expressions = has_expressions or EXPRESSION_START in str(field)
        return scope.value(field)

    policy = end_policy(
        setting.source,
        placed.task,
        placed.expanded,
        setting.policy.stopping,
        value,
        has_spares=bool(setting.backends.spares_of[placed.backend.name]),
        is_elsewhere=placed.is_elsewhere,
    )
    policy = setting.equal_policies.setdefault(policy, policy)
    if not has_expressions and len(placed.expanded.replicas) > 1:
        setting.end_policies[task] = policy
    return policy


def _success(
    setting: _Setting, scope: TaskScope, directory: str
) -> tuple[Success | None, list[DeferredExpression]]:
    """Return what a task must fulfil besides its exit status, and the deferred expressions in it."""
    task, deferred = scope.task, list[DeferredExpression]()
    if task.success is None or not setting.source.rules.has_success:
        return None, deferred

    def rendered(text: str, path: tuple[str | int, ...]) -> str:
        done, more = setting.scripts.value(task, scope.replica.name, text, path, scope.names)
        deferred.extend(more)
        return as_text(done)

    return plan_success(task.success, directory, rendered, scope.value, ("success",)), deferred


def _handover(setting: _Setting, scope: TaskScope, replica: Replica) -> dict[str, Any]:
    task = scope.task
    has_values = bool(task.checkpoint or task.inputs or task.outputs)
    if not (has_values or task.when is not None or task.key is not None or task.python is not None):
        return {}
    from sflow_ctl.planner.handover.parts import handover_parts  # few tasks have any

    return handover_parts(scope, replica, setting.graph, setting.scripts, setting.source.context)._asdict()


def _files(setting: _Setting, scope: TaskScope) -> tuple[PlannedFile, ...]:
    task, name = scope.task, scope.replica.name
    if not (task.files or task.args_json):
        return ()
    written = plan_files(task, scope.value, partial(_read, setting))
    files = tuple(
        setting.scripts.file(task, name, file, scope.names, ("files", file.path)) for file in written
    )
    check_sizes(task, files)
    return files


def _read(setting: _Setting, source: str) -> str:
    """Return the text of an artifact, or of a file in the workspace. Raises: OSError, UnicodeDecodeError."""
    head, _, inside = source.partition("/")
    context = setting.source.context
    for artifact in setting.source.document.artifacts:
        if artifact.name == head:
            if artifact.content is not None and not inside:
                return artifact.content
            path = setting.artifacts.items[head].path
            return context.read_text(f"{path}/{inside}" if inside else path)
    return context.read_text(os.path.join(context.workspace_dir, source))  # noqa: PTH118 - text
