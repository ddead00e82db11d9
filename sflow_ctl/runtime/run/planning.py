"""Plans a run: reads its files and settings, asks Slurm which job this is, and builds the plan.

Starts nothing and writes nothing; `workflow.py` carries out the result. Called by every command that shows or
runs a plan.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.errors import Finding, PlanError, SpecError, UsageError
from protocol.machine.garbage import without_collection
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.loader import DocumentError, LoadedDocument, load_documents
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.planner.launch.arguments import split_arguments
from sflow_ctl.planner.phases.nodes import OWN_JOBS, WRAPPER
from sflow_ctl.planner.pipeline import PlanContext, build_plan, findings_after
from sflow_ctl.planner.placement.capacity import crowd_warning
from sflow_ctl.runtime.assembly.replanning import Replanning
from sflow_ctl.runtime.files.programs import is_installed
from sflow_ctl.runtime.files.settings_files import (
    JOB_FIELDS,
    RunSettings,
    job_fields,
    run_settings,
    settings_layers,
)
from sflow_ctl.runtime.fleet.fleet import NVIDIA_CONTROL, Generation
from sflow_ctl.runtime.record.directory import make_run_id
from sflow_ctl.runtime.record.sources import SourceFile, matching_paths, package_source, source_files
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.settings import Effective, policies_of

if TYPE_CHECKING:
    from sflow_ctl.planner.context import JobNode
    from sflow_ctl.runtime.run.resume import PriorRun
    from sflow_ctl.runtime.slurm.allocation import Allocation


class ReadRun(Struct, frozen=True):
    """A run's workflow files, and the settings that apply to it."""

    loaded: LoadedDocument
    found: Effective
    settings: RunSettings


class NodeSource(Struct, frozen=True):
    """The source of a run's nodes."""

    allocation: "Allocation | None" = None
    """The Slurm job that this run is in; None on this machine, and if a job must be requested."""
    asked: tuple[str, ...] = ()
    """Backends for each of which a job must be requested with salloc."""
    wrapper: str | None = None
    """The only backend that the job is for; None where all share it."""


class BackendJob(Struct, frozen=True):
    """A Slurm job of a run."""

    allocation: "Allocation"
    backend: str | None
    """The only backend that it is for; None where all share it."""

    @property
    def nodes(self) -> "tuple[JobNode, ...]":
        """Return its nodes for planning."""
        job_id = self.allocation.job_id
        return tuple(replace(node, job_id=job_id, backend=self.backend) for node in self.allocation.nodes)


class PlannedRun(Struct, frozen=True):
    """A plan and the decisions made with it."""

    plan: Plan
    settings: RunSettings
    run_id: str
    workflow_yaml: str
    jobs: tuple[BackendJob, ...]
    """The Slurm jobs whose nodes are used: at first the one that the run is in, if any."""
    salloc: tuple[tuple[str, tuple[str, ...]], ...]
    """Backends that need jobs of their own, each with the command that requests its nodes."""
    replan: Replanning
    """Plans again once the nodes of the run's jobs are known."""
    earlier: "PriorRun | None" = None
    """The run to resume."""
    sources: tuple[SourceFile, ...] = ()
    """The workflow files that the plan is made from; of a resume without any, those of the run."""
    labels: dict[str, str] = {}
    """Words about the run."""
    here: tuple[str, str] = ("", "")
    """This host's name and address as the nodes of its jobs see it; empty outside of jobs."""

    @property
    def gone_at(self) -> float | None:
        """When the time of the first of its jobs is over, in monotonic seconds; None if no job has a limit."""
        return min((one for job in self.jobs if (one := job.allocation.ends_at) is not None), default=None)

    @property
    def generation(self) -> Generation:
        """Which of the run's controllers this is."""
        if self.earlier is None:
            return Generation()
        return Generation(self.earlier.incarnation + 1, self.earlier.facts.markers())


@without_collection()
def read_run(options: RunOptions) -> ReadRun:
    """Read the workflow, and the settings of site and user. Raises: SpecError with what planning would find as well."""
    source = options.workflow
    layers = settings_layers(source.settings, os.environ)

    def read(loaded: LoadedDocument) -> ReadRun:
        SECRETS.declare(loaded.document.secrets, os.environ)
        loaded.warnings += tuple(_secrets_without_value(loaded))
        found = layers.of(loaded)
        return ReadRun(loaded, found, run_settings(found, source.workspace_dir))

    try:
        loaded = load_documents(
            source.files,
            source.overrides,
            source.artifacts,
            source.missable,
            compat=source.compat,
            refuses_ignored=source.refuses_ignored,
        )
    except DocumentError as error:
        if error.rest is None:
            raise
        try:
            more = _planning_findings(read(error.rest), options, error.findings)
        except SpecError as of_settings:
            more = list(of_settings.findings)
        raise SpecError((*error.findings, *more)) from error
    copied = options.resume or (options.derived_from and Path(options.derived_from.directory))
    if copied and loaded.document.secrets:
        from sflow_ctl.runtime.run.resume import refuse_masked_values

        refuse_masked_values(loaded.composed_data(), loaded.document.secrets, copied)
    return read(loaded)


def _secrets_without_value(loaded: LoadedDocument) -> Iterator[Finding]:
    """Yield a warning about each secret that is neither a variable of the file nor in this environment."""
    document = loaded.document
    variables = [*document.variables, *document.workflow.variables]
    variables += [one for task in document.workflow.tasks for one in task.variables]
    known = {one.name for one in variables} | os.environ.keys()
    said = {one.where for one in loaded.warnings if one.code == "unknown-secret"}
    for name in document.secrets:
        where = loaded.secret_where(name)
        if name in known or where in said:
            continue
        meant = nearest(name, sorted(known))
        hint = f'did you mean "{meant}"?' if meant else "set the variable, or correct the name"
        what = f'secrets: "{name}" is neither a variable of this file nor set in this environment, so nothing is masked for it'
        yield Finding("unknown-secret", what, where, hint)


def _planning_findings(read: ReadRun, options: RunOptions, known: Sequence[Finding]) -> list[Finding]:
    """Return what planning finds wrong with the rest of a document that is wrong."""
    name = read.loaded.document.workflow.name
    context = plan_context(read, options, NodeSource(), name, read.settings.output_dir / name, is_dry=True)
    return findings_after(read.loaded, known, context)


@without_collection()
def plan_run(read: ReadRun, options: RunOptions, is_dry: bool) -> PlannedRun:
    """Plan a run without touching anything. In a Slurm job the plan is provisional until its agents report.

    Raises: PlanError, UsageError with every finding; AllocationError; UnicodeEncodeError.
    """
    earlier = _earlier(options, is_dry=is_dry)
    loaded, settings = read.loaded, read.settings
    name = loaded.document.workflow.name
    run_id = options.run_id or (name if is_dry else make_run_id(name))  # a dry run's plan is always the same
    _check_run_id(run_id)
    nodes = _find_nodes(loaded, options, is_dry)
    directory = settings.output_dir / run_id
    if is_dry and earlier is None:
        directory = settings.output_dir / "_dry_run" / name
    f"{directory}{options.workflow.workspace_dir}".encode()  # another encoding is refused before anything is made
    context = plan_context(read, options, nodes, run_id, directory, is_dry)
    recorded = () if earlier is None else earlier.state.plan.packages
    context = replace(context, package_of=package_source(recorded))

    def replan(job_id: str, job_nodes: "tuple[JobNode, ...]", here: tuple[str, str]) -> Plan:
        known = replace(context, job_nodes=job_nodes, job_id=job_id, here=here)
        return _judged(made(known), context)

    def made(known: "PlanContext") -> Plan:
        plan = with_simulated_gpus(selected(build_plan(loaded, known), options), options)
        return plan if earlier is None else earlier.grown(plan)

    plan = made(context)
    if any(task.outputs for task in kinds_of(plan.tasks)):
        from sflow_ctl.results.checks import wrong_outputs  # the parse library, only for files with outputs

        if findings := wrong_outputs(plan, loaded.where):
            raise PlanError(findings)
    if (crowd := crowd_warning(plan, len(os.sched_getaffinity(0)))) is not None:
        plan = msgspec.structs.replace(plan, warnings=(*plan.warnings, crowd))
    if plan.storage:
        from sflow_ctl.runtime.uploads.at_start import upload_warnings  # few runs upload anything

        plan = msgspec.structs.replace(plan, warnings=(*plan.warnings, *upload_warnings(plan)))
    plan = _judged(plan, context)
    if not any(node.backend_type == "slurm" for node in plan.nodes):
        nodes = NodeSource()
    labels = _labels(loaded, options, plan)
    salloc = _salloc_commands(read, options, name, nodes.asked) if nodes.asked else ()
    is_own_copy = earlier is not None and not options.workflow.are_files_given
    sources = (
        earlier.facts.sources
        if earlier is not None and is_own_copy
        else source_files(options.workflow.files, loaded.included_files)
    )
    return PlannedRun(
        plan,
        settings,
        run_id,
        loaded.recorded_yaml(),
        () if nodes.allocation is None else (BackendJob(nodes.allocation, nodes.wrapper),),
        salloc,
        Replanning(replan),
        earlier,
        sources,
        labels,
    )


def _judged(plan: Plan, context: "PlanContext") -> Plan:
    """Return the plan with its warnings judged. Raises: PlanError for those that settings make errors."""
    if context.policies is None:
        return plan
    from sflow_ctl.planner.judging.judged import judged  # few sites and files have rules

    return judged(plan, context.policies)


def _labels(loaded: LoadedDocument, options: RunOptions, plan: Plan) -> dict[str, str]:
    """Return the labels of the run. Raises: PlanError."""
    written, said = loaded.document.workflow.labels, options.workflow.labels
    if not written and not said:
        return {}
    from sflow_ctl.planner.phases.labels import run_labels  # few runs have some

    return run_labels(written, said, plan.variables)


def _earlier(options: RunOptions, *, is_dry: bool) -> "PriorRun | None":
    """Claim the run to resume, unless nothing may be written, and read its progress. Raises: UsageError."""
    if options.resume is None:
        return None
    from sflow_ctl.runtime.run.resume import earlier_run

    return earlier_run(
        options.resume,
        options.workflow.workspace_dir,
        is_forced=options.force,
        must_claim=not is_dry,
        job_id=options.fleet.job_id or os.environ.get("SLURM_JOB_ID"),
        is_rerun=options.rerun is not None,
    )


def _check_run_id(run_id: str) -> None:
    if Path(run_id).name != run_id or run_id in (".", ".."):
        raise UsageError.of(
            "unsafe-name", f'"{run_id}" cannot be the name of a directory', hint="use --run-id NAME"
        )


def _find_nodes(loaded: LoadedDocument, options: RunOptions, is_dry: bool) -> NodeSource:
    """Find the nodes of the run. Raises: AllocationError."""
    fleet = options.fleet
    if fleet.nodes is not None or not any(one.type == "slurm" for one in loaded.document.backends):
        return NodeSource()
    from sflow_ctl.batch.slurm_request import used_slurm_backends
    from sflow_ctl.runtime.slurm.allocation import allocation_of, current_allocation

    allocation = current_allocation(os.environ) if fleet.job_id is None else allocation_of(fleet.job_id)
    can_ask = not is_dry and is_installed("salloc")
    used = used_slurm_backends(loaded)
    wrapper = os.environ.get(WRAPPER) if os.environ.get(OWN_JOBS) == "1" else None
    if allocation is None:
        return NodeSource(asked=used if can_ask else ())
    if wrapper not in used or len(used) == 1 or not (can_ask or is_dry):
        return NodeSource(allocation)
    return NodeSource(allocation, tuple(name for name in used if name != wrapper), wrapper)


def plan_context(
    read: ReadRun, options: RunOptions, nodes: NodeSource, run_id: str, directory: Path, is_dry: bool
) -> PlanContext:
    """Return the facts for the planner of a run in this directory, with these nodes."""
    allocation = nodes.allocation
    return PlanContext(
        workspace_dir=str(options.workflow.workspace_dir),
        output_dir=str(read.settings.output_dir),
        run_directory=str(directory),
        run_id=run_id,
        nodes_override=options.fleet.nodes,
        gpus_per_node_override=options.fleet.gpus_per_node,
        max_running=options.tasks.max_running,
        usual_max_running=read.found.settings.max_running,
        is_strict=read.found.settings.strict,
        path_exists=os.path.exists,
        read_text=lambda path: Path(path).read_text(encoding="utf-8"),
        glob=matching_paths,
        job_nodes=None if allocation is None else BackendJob(allocation, nodes.wrapper).nodes,
        job_id="0" if allocation is None else allocation.job_id,
        docker_args=split_arguments(options.fleet.extra_docker_args),
        extra_args=split_arguments(options.fleet.extra_args),
        container_engine=read.found.settings.container_engine,
        given=job_fields(read.found) if allocation is None else frozenset(JOB_FIELDS),
        compat=options.workflow.compat,
        include_nodes=options.fleet.include_nodes,
        exclude_nodes=options.fleet.exclude_nodes,
        ignored_backends=frozenset(options.workflow.ignored_backends),
        shows_unsupported=options.workflow.shows_unsupported,
        may_lack_artifacts=is_dry,
        skips_artifact_check=options.workflow.skip_artifact_check,
        monitors_workflow=options.tasks.enable_workflow_monitor,
        monitored_tasks=options.tasks.enable_task_monitor,
        package_of=package_source(()),
        python_path=os.environ.get("PYTHONPATH", ""),
        scratch=read.found.settings.scratch,
        policies=policies_of(read.found.settings.validation),
        gpu_memory_here=gpu_memory_here,
        allow_placeholder_nodes=is_dry or bool(nodes.asked),
    )


def gpu_memory_here() -> int:
    """Return the memory of this machine's smallest GPU in bytes; 0 if the driver reports none."""
    from sflow_ctl.runtime.idle_gpus import gpus_now  # asked for few files

    return min((gpu.memory_bytes for gpu in gpus_now() if gpu.memory_bytes), default=0)


def _salloc_commands(
    read: ReadRun, options: RunOptions, name: str, backends: Sequence[str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    from sflow_ctl.runtime.slurm.own_allocation import salloc_commands

    return salloc_commands(read, options, name, backends)


def with_simulated_gpus(plan: Plan, options: RunOptions) -> Plan:
    """Return the plan with the number of GPUs that are simulated on this machine, and the warning about them."""
    if not any(task.placement.gpus_per_node or task.placement.gpus for task in kinds_of(plan.tasks)):
        return plan
    from sflow_ctl.plan.gpu_checks import simulated

    count, warning = simulated(
        plan, has_driver=NVIDIA_CONTROL.exists(), is_asked_for=options.fleet.simulate_gpus
    )
    warnings = plan.warnings if warning is None else (*plan.warnings, warning)
    nodes = plan.nodes
    if options.fleet.simulate_gpus:
        nodes = tuple(
            msgspec.structs.replace(node, engine_host=replace(node.engine_host, simulates_gpus=True))
            if node.engine_host is not None
            else node
            for node in nodes
        )
    return msgspec.structs.replace(plan, nodes=nodes, simulated_gpus=count, warnings=warnings)


def selected(plan: Plan, options: RunOptions) -> Plan:
    """Return the part of the plan that `--task` asks for, with what `--only` shows of it. Raises: PlanError, UsageError."""
    if options.tasks.keep_alive:
        warnings = tuple(one for one in plan.warnings if one.code != "only-services")
        plan = msgspec.structs.replace(plan, keep_alive=True, warnings=warnings)
    if options.tasks.tasks:
        from sflow_ctl.planner.prune import pruned  # most runs are of everything

        plan = pruned(plan, options.tasks.tasks, options.tasks.skip_dependencies)
    if options.only:
        from sflow_ctl.planner.prune import showing_only  # most runs show everything

        plan = showing_only(plan, options.only)
    return plan
