"""The plan: every phase of planning in its order, from a checked document to concrete tasks. Pure and
deterministic.
"""

import os.path
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from protocol.errors import PlanError
from protocol.messages.rank_spec import PortBlock, Stopping, Success
from sflow_ctl.format import schema
from sflow_ctl.format.casting import cast
from sflow_ctl.format.expressions.templates import MARK, as_text, evaluate_any
from sflow_ctl.format.loader import LoadedDocument
from sflow_ctl.format.written import plain
from sflow_ctl.plan.graph import find_cycle
from sflow_ctl.plan.model import (
    DeferredExpression,
    Fetch,
    Placement,
    Plan,
    PlannedFile,
    PlannedNode,
    PlannedTask,
    Retries,
)
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.launch.command import command, merged_operator
from sflow_ctl.planner.launch.geometry import ranks_per_node
from sflow_ctl.planner.launch.launchers import once_per_node, plan_launcher
from sflow_ctl.planner.launch.srun import Step
from sflow_ctl.planner.numbers import as_flag, as_int, as_seconds
from sflow_ctl.planner.phases.artifact_use import artifact_use
from sflow_ctl.planner.phases.artifacts import (
    Materialised,
    Places,
    inline_files,
    mounted_directories,
    plan_artifacts,
    planned_fetches,
)
from sflow_ctl.planner.phases.backends import Backends
from sflow_ctl.planner.phases.capacity import Demand, check_capacity, gpus_taken
from sflow_ctl.planner.phases.expand import Expanded, Replica, dependencies, expand
from sflow_ctl.planner.phases.nodes import JobNodes, backend_nodes, node_view
from sflow_ctl.planner.phases.place import Pool, Request, place_all
from sflow_ctl.planner.phases.variables import NAMESPACES, as_the_reference, namespace, resolve
from sflow_ctl.planner.tasks.environment import shared_environment, task_environment
from sflow_ctl.planner.tasks.outputs import plan_outputs
from sflow_ctl.planner.tasks.policies import FINALLY_TIMEOUT_S, policies
from sflow_ctl.planner.tasks.ports import artifacts_in_files, plan_files, plan_ports
from sflow_ctl.planner.tasks.probes import DeferredProbes, plan_probes, readiness_deadline_s
from sflow_ctl.planner.tasks.scripts import Scripts, own_ports
from sflow_ctl.planner.tasks.signatures import plan_signatures
from sflow_ctl.planner.tasks.stopping import plan_hang, plan_stopping, workflow_stopping
from sflow_ctl.planner.tasks.success import plan_success

__all__ = ["PlanContext", "build_plan"]


def build_plan(loaded: LoadedDocument, context: PlanContext) -> Plan:
    """The plan of a document. Raises: PlanError with every finding."""
    return _Planner(loaded, context).build()


@dataclass(slots=True)
class _Draft:
    """A concrete task while it is being planned."""

    expanded: Expanded
    replica: Replica
    backend: schema.Backend
    names: dict[str, Any] | None = None
    placement: Placement | None = None
    late: list[DeferredExpression] = field(default_factory=list)
    """Of its own variables."""
    ports: tuple[PortBlock, ...] = ()


class _Planner:
    def __init__(self, loaded: LoadedDocument, context: PlanContext) -> None:
        self._document = loaded.document
        self._context = context
        self._findings = Findings(loaded, warnings=list(loaded.warnings))
        self._backends = Backends(self._document)
        self._operators = {operator.name: operator for operator in self._document.operators}
        self._variables: dict[str, Any] = {}
        self._others: dict[str, Any] = {}
        self._nodes: dict[str, list[PlannedNode]] = {}
        self._replicas_of: dict[str, tuple[str, ...]] = {}
        self._task_namespace: dict[str, Any] = {}
        self._artifact_mounts: list[str] = []
        self._is_het = any(node.het_group is not None for node in context.job_nodes or ())
        self._fetches: tuple[Fetch, ...] = ()
        self._required_paths: dict[str, tuple[tuple[str, str], ...]] = {}
        self._stopping = Stopping()
        self._scripts = Scripts(self._document.workflow.tasks, self._replicas_of)

    def build(self) -> Plan:
        document, context, findings = self._document, self._context, self._findings
        global_values = resolve(document.variables, {}, {}, "variables", findings)
        self._stop_if_wrong()
        if context.is_strict:
            global_values = as_the_reference(document.variables, global_values)
        self._plan_backends(global_values)
        self._stop_if_wrong()
        artifacts = self._plan_artifacts(global_values)
        own = resolve(
            document.workflow.variables, global_values, self._others, "workflow.variables", findings
        )
        if context.is_strict:
            own = as_the_reference(document.workflow.variables, own)
        self._variables = {**global_values, **own}
        self._artifact_mounts = mounted_directories(artifacts)
        files = inline_files(
            document.artifacts,
            artifacts,
            namespace(self._variables, self._others),
            artifacts_in_files(document.workflow.tasks),
            findings,
        )
        self._warn_of_hidden_names()
        self._stop_if_wrong()
        expanded = self._expand_all()
        self._stop_if_wrong()
        self._check_names_and_cycles(expanded)
        waits_for = dependencies(expanded, "available" if context.is_strict else "completed")
        drafts = [
            _Draft(one, replica, self._backends.of(one.task)) for one in expanded for replica in one.replicas
        ]
        self._place(drafts)
        self._stop_if_wrong()
        self._plan_ports(drafts)
        self._task_namespace = self._describe_tasks(expanded, drafts)
        exported = {k: str(v) for k, v in self._variables.items()} if context.is_strict else self._variables
        shared, warnings = shared_environment(
            exported, {name: one.path for name, one in artifacts.items()}, self._fixed_environment()
        )
        findings.warnings += warnings
        stop_timeout_s = self._plan_run_end()
        tasks = [self._plan_task(draft, waits_for, shared) for draft in drafts]
        timeout_s = None
        if document.workflow.timeout is not None and not context.is_strict:
            with findings.collecting("workflow", "timeout", subject="workflow.timeout"):
                names = namespace(self._variables, self._others)
                timeout_s = as_seconds(evaluate_any(document.workflow.timeout, names))
        keep_alive = False
        with findings.collecting("workflow", "keep_alive", subject="workflow.keep_alive"):
            keep_alive = as_flag(
                evaluate_any(document.workflow.keep_alive, namespace(self._variables, self._others))
            )
        success = self._workflow_success()
        signatures = plan_signatures(
            document.signatures, namespace(self._variables, self._others), self._findings
        )
        self._stop_if_wrong()
        planned = [task for task in tasks if task is not None]
        if not (keep_alive or context.is_strict) and all(
            task.is_service for task in planned if task.finally_when is None
        ):
            findings.warn(
                "every task is a service: the run ends as soon as all are ready, unless it has keep_alive: true"
            )
        return Plan(
            workflow=document.workflow.name,
            nodes=tuple(node for nodes in self._nodes.values() for node in nodes),
            tasks=tuple(planned),
            timeout_s=timeout_s,
            stop_timeout_s=stop_timeout_s,
            keep_alive=keep_alive,
            services_may_leave=context.is_strict,
            success=success,
            signatures=signatures,
            max_running=context.max_running,
            job_id=context.job_id if context.job_id != "0" else None,
            variables=plain(dict(self._variables)),
            artifacts={name: one.path for name, one in artifacts.items()},
            files=files,
            fetches=self._fetches,
            directories=tuple(one.directory for one in artifacts.values() if one.directory is not None),
            task_views=self._scripts.views(self._task_namespace),
            warnings=tuple(findings.warnings),
        )

    def _plan_run_end(self) -> float | None:
        """How tasks end that say nothing themselves; returns how long the end of the run may take."""
        workflow = self._document.workflow
        value = partial(evaluate_any, names=namespace(self._variables, self._others))
        with self._findings.collecting("workflow", "stop"):
            self._stopping = workflow_stopping(workflow, value)
        with self._findings.collecting("workflow", "stop_timeout", subject="workflow.stop_timeout"):
            if workflow.stop_timeout is not None:
                return as_seconds(value(workflow.stop_timeout))
        return None

    def _warn_of_hidden_names(self) -> None:
        for name in self._variables:
            if name in NAMESPACES:
                self._findings.warn(
                    f'variable "{name}" has the name of a namespace: ${{{{ {name} }}}} is the namespace, '
                    f"write variables.{name}"
                )

    def _stop_if_wrong(self) -> None:
        if self._findings.found:
            raise PlanError(self._findings.found)

    # ------------------------------------------------------------------ what tasks stand on

    def _plan_backends(self, values: Mapping[str, Any]) -> None:
        """Nodes of the backends that tasks use, in file order; `backends` for expressions."""
        for task in self._document.workflow.tasks:
            with self._findings.collecting("tasks", task.name, "backend", subject=f'task "{task.name}"'):
                self._backends.add_own(task)
        self._require_job_fields()
        self._stop_if_wrong()
        used = {self._backends.of(task).name for task in self._document.workflow.tasks}
        names = namespace(values, {})
        first = 0
        slurm = {one.name for one in self._backends.all if one.type == "slurm" and one.name in used}
        job = JobNodes(self._context.job_nodes, len(slurm))
        described: dict[str, Any] = {}
        for backend in self._backends.all:
            with self._findings.collecting("backends", backend.name, subject=f'backend "{backend.name}"'):
                nodes = backend_nodes(
                    backend, names, first, is_used=backend.name in used, context=self._context, job=job
                )
                described[backend.name] = {
                    "name": backend.name,
                    "nodes": [node_view(node, node.backend_index) for node in nodes],
                }
                if backend.name in used:
                    self._nodes[backend.name] = nodes
                    first += len(nodes)
        self._findings.warnings += job.warnings
        self._others = {
            "backends": described,
            "workflow": {"name": self._document.workflow.name},
            "artifacts": {},
        }

    def _require_job_fields(self) -> None:
        for backend in self._document.backends:
            for name in ("account", "partition"):
                if (
                    backend.type == "slurm"
                    and getattr(backend, name) is None
                    and name not in self._context.given
                ):
                    what = f'"{name}" is missing: a slurm backend needs it'
                    where = self._findings.loaded.where("backends", backend.name)
                    self._findings.add(
                        "missing-key", what, where, f'add "{name}:" here, under settings: or to a site file'
                    )

    def _plan_artifacts(self, values: Mapping[str, Any]) -> dict[str, Materialised]:
        document, context = self._document, self._context
        use = artifact_use(document, self._is_elsewhere)
        places = Places(context.workspace_dir, context.run_directory, context.path_exists, use.elsewhere)
        names = namespace(values, self._others)
        artifacts = plan_artifacts(document.artifacts, names, places, self._findings)
        self._fetches = planned_fetches(artifacts, with_images=use.is_any_here, findings=self._findings)
        self._required_paths = {
            task: tuple((n, artifacts[n].path) for n in used if n in artifacts and artifacts[n].is_on_nodes)
            for task, used in use.of_tasks_elsewhere.items()
        }
        view = {name: {"uri": one.uri, "path": one.path} for name, one in artifacts.items()}
        self._others = {**self._others, "artifacts": view}
        return artifacts

    def _is_elsewhere(self, task: schema.Task) -> bool:
        """True for a task that runs where this process cannot look: a dry run looks here all the same."""
        is_slurm = self._backends.of(task).type == "slurm" and self._context.nodes_override is None
        return is_slurm and not self._context.allow_placeholder_nodes

    def _fixed_environment(self) -> dict[str, str]:
        return {
            "SFLOW_WORKSPACE_DIR": self._context.workspace_dir,
            "SFLOW_OUTPUT_DIR": self._context.output_dir,
            "SFLOW_WORKFLOW_OUTPUT_DIR": self._context.run_directory,
            "SFLOW_WORKFLOW_NAME": self._document.workflow.name,
            "SFLOW_RUN_ID": self._context.run_id,
        }

    # ------------------------------------------------------------------ concrete tasks

    def _expand_all(self) -> list[Expanded]:
        variables = (*self._document.variables, *self._document.workflow.variables)
        domains = {variable.name: variable.domain for variable in variables}
        names = namespace(self._variables, self._others)
        expanded = []
        for task in self._document.workflow.tasks:
            with self._findings.collecting("tasks", task.name, "replicas", subject=f'task "{task.name}"'):
                replicas = task.replicas
                count, policy = None, "parallel"
                if replicas is not None:
                    policy = str(evaluate_any(replicas.policy, names))
                    if replicas.count is not None:
                        count = as_int(evaluate_any(replicas.count, names))
                one = expand(task, count, policy, domains)
                expanded.append(one)
                self._replicas_of[task.name] = tuple(replica.name for replica in one.replicas)
        return expanded

    def _check_names_and_cycles(self, expanded: list[Expanded]) -> None:
        owner: dict[str, str] = {}
        for one in expanded:
            for replica in one.replicas:
                other = owner.setdefault(replica.name, one.task.name)
                if other != one.task.name:
                    what = f'a replica of task "{one.task.name}" and task "{other}" are both called "{replica.name}"'
                    where = self._findings.loaded.where("tasks", one.task.name)
                    self._findings.add("name-collision", what, where, "rename one of the tasks")
        self._stop_if_wrong()
        # Replicas of a task wait for the same tasks, and chains are no cycles: tasks as written are enough.
        cycle = find_cycle({one.task.name: [d.task for d in one.task.dependencies] for one in expanded})
        if cycle is not None:
            where = self._findings.loaded.where("tasks", cycle[0], "depends_on")
            what = f"Graph contains a cycle: {' -> '.join(cycle)}"
            self._findings.add("cycle", what, where, "remove one of these dependencies")
            self._stop_if_wrong()

    def _place(self, drafts: list[_Draft]) -> None:
        by_backend: dict[str, list[_Draft]] = {}
        for draft in drafts:
            by_backend.setdefault(draft.backend.name, []).append(draft)
        for name, members in by_backend.items():
            nodes = self._nodes[name]
            pool = Pool(nodes[0].index, tuple(node.gpus for node in nodes), self._context.is_strict)
            requests = []
            for draft in members:
                task = draft.expanded.task
                with self._findings.collecting(
                    "tasks", task.name, "resources", subject=f'task "{task.name}"'
                ):
                    requests.append(self._request(draft))
            if len(requests) < len(members):
                continue
            for draft, placed in zip(members, place_all(pool, requests), strict=True):
                if isinstance(placed, UnplannableError):
                    where = self._findings.loaded.where("tasks", draft.expanded.task.name, *placed.path)
                    self._findings.add(placed.code, placed.what, where, placed.hint)
                else:
                    draft.placement = placed
        if not self._findings.found and not self._context.is_strict:
            self._check_capacity(drafts)

    def _check_capacity(self, drafts: list[_Draft]) -> None:
        by_base: dict[str, list[_Draft]] = {}
        for draft in drafts:
            by_base.setdefault(draft.expanded.task.name, []).append(draft)
        # What runs when all has been stopped has room; what runs beside the services needs it like a job.
        tasks = [task for task in self._document.workflow.tasks if task.finally_ not in (True, "after_stop")]
        counted = {task.name for task in tasks}
        services = [task.name for task in tasks if task.is_service]
        demands = [
            Demand(
                task=base,
                backend=members[0].backend.name,
                is_service=members[0].expanded.task.is_service,
                replicas=len(members),
                gpus=max(gpus_taken(one.placement) for one in members if one.placement is not None),
            )
            for base, members in by_base.items()
            if base in counted
        ]
        depends_on = {
            task.name: services if task.finally_ else [d.task for d in task.dependencies] for task in tasks
        }
        for task, problem in check_capacity(demands, depends_on, self._nodes, self._context.max_running):
            self._findings.add(
                problem.code,
                problem.what,
                self._findings.loaded.where("tasks", task, *problem.path),
                problem.hint,
            )

    def _request(self, draft: _Draft) -> Request:
        task, replica = draft.expanded.task, draft.replica
        resources = task.resources
        is_apart = bool(task.finally_)
        if resources is None:
            return Request(
                task=replica.name,
                replica_index=replica.index,
                is_sequential=draft.expanded.is_sequential,
                node_count=1 if is_apart else None,
                is_apart=is_apart,
            )
        value = partial(self._value, draft)
        nodes = resources.nodes or schema.Nodes()
        exclude = value(nodes.exclude)
        excluded = [] if exclude is None else exclude if isinstance(exclude, list) else [exclude]
        return Request(
            task=replica.name,
            replica_index=replica.index,
            is_sequential=draft.expanded.is_sequential,
            indices=None if nodes.indices is None else tuple(as_int(value(index)) for index in nodes.indices),
            node_count=self._node_count(resources, is_apart, value),
            exclude=tuple(as_int(value(index)) for index in excluded),
            gpus=None if resources.gpus is None else as_int(value(resources.gpus.count), 1),
            is_shared=resources.gpus is not None and as_flag(value(resources.gpus.shared)),
            is_fixed=bool(task.ports) and resources.gpus is None and not is_apart,
            is_apart=is_apart,
        )

    @staticmethod
    def _node_count(resources: schema.Resources, is_apart: bool, value: Callable[[Any], Any]) -> int | None:
        """At the end one node is enough, whichever is left."""
        nodes = resources.nodes or schema.Nodes()
        if nodes.count is not None:
            return as_int(value(nodes.count), 1)
        return 1 if is_apart and nodes.indices is None and resources.gpus is None else None

    def _plan_ports(self, drafts: list[_Draft]) -> None:
        for draft in drafts:
            task = draft.expanded.task
            if task.ports:
                draft.ports = plan_ports(task, partial(self._value, draft), self._findings)
                self._scripts.counts[draft.replica.name] = {one.name: one.count for one in draft.ports}
        self._stop_if_wrong()

    def _describe_tasks(self, expanded: list[Expanded], drafts: list[_Draft]) -> dict[str, Any]:
        """The `task` namespace: every concrete name, and lists of replicas under replicated base names."""
        if not any(MARK in item for one in expanded for item in one.task.script) and not any(
            one.task.probes or one.task.operator or one.task.variables or one.task.files or one.task.success
            for one in expanded
        ):
            return {}  # nothing can ask
        views: dict[str, Any] = {}
        for draft in drafts:
            placement = draft.placement
            assert placement is not None
            operator = draft.expanded.task.operator
            name = operator if isinstance(operator, str) else (operator or {}).get("name")
            view: dict[str, Any] = {
                "backend": draft.backend.name,
                "operator": name or f"default_{draft.backend.name}",
            }
            if not placement.is_flexible:  # else nobody knows before it starts, and nothing must be made up
                nodes = map(self._node, placement.nodes)
                view["nodes"] = [node_view(node, position) for position, node in enumerate(nodes)]
                view["gpus"] = list(placement.gpus)
            views[draft.replica.name] = view
            if placement.is_flexible:
                self._scripts.flexible.add(draft.expanded.task.name)
        for one in expanded:
            if one.is_replicated:
                views[one.task.name] = [views[replica.name] for replica in one.replicas]
        return views

    def _node(self, index: int) -> PlannedNode:
        return next(
            nodes[index - nodes[0].index]
            for nodes in self._nodes.values()
            if 0 <= index - nodes[0].index < len(nodes)
        )

    # ------------------------------------------------------------------ one task

    def _names(self, draft: _Draft) -> dict[str, Any]:
        """What the expressions of one replica see: sweep values and the task's own variables in their
        places.
        """
        if draft.names is None:
            values = {**self._variables, **self._task_variables(draft)}
            replica = {"index": draft.replica.index, "name": draft.replica.name}
            others = {**self._others, "task": self._task_namespace}
            # Not a namespace of the format: a variable of that name is what an existing file means.
            draft.names = namespace(values, others)
            for name, value in {"replica": replica, **own_ports(draft.expanded.task)}.items():
                draft.names.setdefault(name, value)
        elif draft.names["task"] is not self._task_namespace:
            draft.names["task"] = self._task_namespace
        return draft.names

    def _value(self, draft: _Draft, field: Any) -> Any:
        return evaluate_any(field, self._names(draft)) if _is_text(field) else field

    def _task_variables(self, draft: _Draft) -> dict[str, Any]:
        if self._context.is_strict:  # only the environment varies, and task variables count for nothing
            return {}
        task = draft.expanded.task
        types = {v.name: v.type for v in (*self._document.variables, *self._document.workflow.variables)}
        swept = {name: cast(value, types.get(name)) for name, value in draft.replica.sweep}
        own: dict[str, Any] = {}
        if swept and any(
            _is_text(variable.value)
            for variable in (*self._document.variables, *self._document.workflow.variables)
        ):
            own.update(self._recomputed(swept))
        for variable in task.variables:
            if variable.name not in swept:
                names = namespace({**self._variables, **own, **swept}, self._others)
                replica = {"index": draft.replica.index, "name": draft.replica.name}
                names = {"replica": replica, **own_ports(task), **names, "task": self._task_namespace}
                own[variable.name], late = self._scripts.variable(task, draft.replica.name, variable, names)
                draft.late += late
        return {**own, **swept}

    def _recomputed(self, swept: Mapping[str, Any]) -> dict[str, Any]:
        """Variables computed from swept ones, for one replica."""
        variables = [
            variable
            if variable.name not in swept
            else msgspec.structs.replace(variable, value=swept[variable.name])
            for variable in (*self._document.variables, *self._document.workflow.variables)
        ]
        return resolve(variables, {}, self._others, "variables", self._findings)

    def _plan_task(
        self, draft: _Draft, waits_for: Mapping[str, Any], shared: Mapping[str, str]
    ) -> PlannedTask | None:
        task, replica, placement = draft.expanded.task, draft.replica, draft.placement
        assert placement is not None
        with self._findings.collecting("tasks", task.name, subject=f'task "{replica.name}"'):
            value = partial(self._value, draft)
            nodes = [] if placement.is_flexible else [self._node(index) for index in placement.nodes]
            own = self._task_variables(draft) if task.variables or replica.sweep else {}
            env = task_environment(
                shared=shared,
                nodes=nodes,
                own=own,
                replica=replica,
                gpus=placement.gpus,
                run_directory=self._context.run_directory,
            )
            script, late = self._scripts.script(task, replica.name, self._names(draft))
            operator = merged_operator(task, self._operators, value)
            directories = self._directories(env)
            step = self._step(draft, nodes, directories)
            engine = self._context.container_engine
            how = command(task, operator, draft.backend, script, env, directories, step, engine)
            has_geometry = how.operator_kind == "srun" and how.launch_kind == "process"
            is_gang = draft.backend.type == "slurm" and has_geometry
            count = placement.node_count if placement.is_flexible else len(placement.nodes)
            launcher = plan_launcher(task, value, placement, how)
            ranks = ranks_per_node(operator, count) if is_gang else (1,)
            if launcher is not None:
                ranks = once_per_node(task, launcher, count, ranks)
            if how.launch_kind == "ssh":
                _refuse_elsewhere(task)
            probes = DeferredProbes(self._scripts, task, replica.name, self._names(draft))
            planned_probes = plan_probes(task, probes, self._replicas_of)
            return PlannedTask(
                name=replica.name,
                base=task.name,
                replica_index=replica.index,
                is_replicated=draft.expanded.is_replicated,
                sweep=tuple((name, env[name]) for name, _ in replica.sweep),
                backend=draft.backend.name,
                operator=how.name,
                operator_kind=how.operator_kind,
                launch_kind=how.launch_kind,
                argv=how.argv,
                assigned_arguments=how.assigned_arguments,
                script=script,
                env={**env, **how.env},
                cwd=how.cwd,
                container=how.container,
                depends_on=waits_for[replica.name],
                placement=placement,
                has_step_variables=has_geometry
                or (how.launch_kind == "ssh" and draft.backend.type == "slurm"),
                ranks_per_node=ranks,
                launcher=launcher,
                kill_on_bad_exit=launcher is not None  # the others would wait for it for half an hour
                or (is_gang and operator is not None and as_flag(operator.kill_on_bad_exit or False)),
                wait_s=as_seconds(operator.wait)
                if is_gang and operator is not None and operator.wait
                else None,
                retries=self._retries(task, value),
                timeout_s=self._timeout_s(task, value),
                **policies(task, self._document.workflow, len(draft.expanded.replicas), value),
                deadline_s=readiness_deadline_s(task, value),
                probes=planned_probes,
                stopping=plan_stopping(task, self._stopping, value),
                hang=plan_hang(task, value),
                outputs=plan_outputs(task, value, self._findings),
                success=self._success(draft, env["SFLOW_TASK_OUTPUT_DIR"], late),
                required_paths=self._required_paths.get(task.name, ()) if how.launch_kind != "ssh" else (),
                late=tuple({late.mark: late for late in (*draft.late, *late, *probes.late)}.values()),
                late_tcp_ports=tuple(probes.tcp_ports),
                files=self._plan_files(draft),
                ports=draft.ports,
                has_master_port=sum(ranks) > 1
                or (launcher is not None and launcher.kind == "torchrun")
                or how.launch_kind == "step"
                or (how.launch_kind != "ssh" and _MASTER_PORT in script),
            )
        return None

    def _plan_files(self, draft: _Draft) -> tuple[PlannedFile, ...]:
        task, name = draft.expanded.task, draft.replica.name
        if not task.files:
            return ()
        files = plan_files(task, partial(self._value, draft), self._read)
        return tuple(
            self._scripts.file(task, name, file, self._names(draft), ("files", file.path)) for file in files
        )

    def _read(self, source: str) -> str:
        """The text of an artifact, or of a file in the workspace. Raises: OSError, UnicodeDecodeError."""
        head, _, inside = source.partition("/")
        for artifact in self._document.artifacts:
            if artifact.name == head:
                if artifact.content is not None and not inside:
                    return artifact.content
                path: str = self._others["artifacts"][head]["path"]
                return self._context.read_text(f"{path}/{inside}" if inside else path)
        return self._context.read_text(os.path.join(self._context.workspace_dir, source))  # noqa: PTH118 - text

    def _success(self, draft: _Draft, directory: str, late: list[DeferredExpression]) -> Success | None:
        """What must hold of a task; what it waits for is added to `late`."""
        task = draft.expanded.task
        if task.success is None or self._context.is_strict:
            return None

        def rendered(text: str, path: tuple[str | int, ...]) -> str:
            done, more = self._scripts.value(task, draft.replica.name, text, path, self._names(draft))
            late.extend(more)
            return as_text(done)

        return plan_success(task.success, directory, rendered, partial(self._value, draft), ("success",))

    def _workflow_success(self) -> Success | None:
        success = self._document.workflow.success
        if success is None or self._context.is_strict:
            return None
        with self._findings.collecting("workflow", "success", subject="workflow.success"):
            names = namespace(self._variables, self._others)
            return plan_success(
                success,
                self._context.run_directory,
                lambda text, _: as_text(evaluate_any(text, names)),
                lambda value: evaluate_any(value, names),
                (),
            )
        return None

    def _timeout_s(self, task: schema.Task, value: Callable[[Any], Any]) -> float | None:
        if task.timeout is None and task.finally_:
            return FINALLY_TIMEOUT_S
        if task.timeout is None or self._context.is_strict:
            return None
        return as_seconds(value(task.timeout))

    def _directories(self, env: Mapping[str, str]) -> list[str]:
        """What a container must see at the same path as outside."""
        names = (
            "SFLOW_WORKSPACE_DIR",
            "SFLOW_OUTPUT_DIR",
            "SFLOW_WORKFLOW_OUTPUT_DIR",
            "SFLOW_TASK_OUTPUT_DIR",
        )
        return [*self._artifact_mounts, *(env[name] for name in names)]

    def _step(self, draft: _Draft, nodes: list[PlannedNode], directories: list[str]) -> Step | None:
        if draft.backend.type != "slurm" or self._context.nodes_override is not None:
            return None
        placement = draft.placement
        assert placement is not None
        task = draft.expanded.task
        het_groups: tuple[str, ...] = ()
        if self._is_het:
            groups = {self._node(index).het_group or 0 for index in placement.nodes}
            het_groups = tuple(map(str, sorted(groups)))
        return Step(
            task=draft.replica.name,
            job_id=self._context.job_id,
            nodes=tuple(node.name for node in nodes),
            node_count=placement.node_count if placement.is_flexible else len(nodes),
            het_groups=het_groups,
            has_gpus=task.resources is not None and task.resources.gpus is not None,
            mounts=tuple(f"{path}:{path}:rw" for path in directories),
        )

    @staticmethod
    def _retries(task: schema.Task, value: Callable[[Any], Any]) -> Retries:
        if task.retries is None:
            return Retries()
        return Retries(
            count=as_int(value(task.retries.count), 0),
            interval_s=as_seconds(value(task.retries.interval)),
            backoff=float(as_int(value(task.retries.backoff), 1)),
            reasons=tuple(str(value(word)) for word in task.retries.reasons),
        )


_MASTER_PORT = "SFLOW_MASTER_PORT"
"""A task of one process that names it wants one; those that do not are spared the question to their node."""


def _refuse_elsewhere(task: schema.Task) -> None:
    """Raises: UnplannableError for what only a node with an agent has."""
    for name, what in (("ports", "leased"), ("files", "written")):
        if getattr(task, name):
            text = f'task "{task.name}": {name} are {what} by the agent of a node, and ssh runs it elsewhere'
            raise UnplannableError("needs-agent", text, f"drop {name}, or the ssh operator", (name,))


def _is_text(value: Any) -> bool:
    """True for what may hold an expression: the others need no names, which cost something to make."""
    return isinstance(value, list | dict) or (isinstance(value, str) and MARK in value)
