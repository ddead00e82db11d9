"""One job of `batch`: loads its workflow, plans it as the job will, writes its script, submits it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from msgspec import Struct
from msgspec.structs import replace

from protocol.errors import Finding, UsageError
from sflow_ctl.batch.chain import Chain
from sflow_ctl.batch.memory import MEMORY_VARIABLES
from sflow_ctl.batch.script import BatchJob, batch_script
from sflow_ctl.batch.sheet import NODE_COLUMNS
from sflow_ctl.batch.slurm_request import SlurmRequest, completed, largest, slurm_requests
from sflow_ctl.batch.slurm_time import slurm_time
from sflow_ctl.cli.options.batch_options import BatchOptions
from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.format.compose import compose
from sflow_ctl.format.expressions.templates import evaluate_any
from sflow_ctl.format.loader import LoadedDocument, load_documents
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.context import JobNode
from sflow_ctl.planner.launch.arguments import split_arguments, without_replaced
from sflow_ctl.planner.numbers import NumberError, as_int
from sflow_ctl.planner.phases.node_filter import NodeFilter
from sflow_ctl.planner.phases.nodes import OWN_JOBS, WRAPPER
from sflow_ctl.planner.pipeline import PlanContext, build_plan
from sflow_ctl.runtime.files.settings_files import job_fields, preamble
from sflow_ctl.runtime.slurm.commands import default_account, default_partition, requeue_word
from sflow_ctl.settings import Effective
from sflow_ctl.version import VERSION

DEFAULT_NAME = "sflow"
MADE_BY = f"sflow-ctl {VERSION}"


class JobChoice(Struct, frozen=True, kw_only=True):
    """The choices for one job, beside the options common to all."""

    files: tuple[Path, ...]
    overrides: tuple[str, ...]
    artifacts: tuple[str, ...]
    missable: tuple[str, ...]
    name: str | None
    """None for the file's name, or the default."""
    nodes: int | None
    file_decides_gpus: bool = False
    """The file's GPUs per node win over `-G`, which is for files without a number."""
    may_leave_nodes: bool = False
    """Without a number of nodes, use a variable with the name of a node column, else Slurm's default."""


class PreparedJob(Struct, frozen=True):
    """A script, the workflow that it runs as one file, and notes for the user."""

    job: BatchJob
    program: tuple[str, ...]
    options: tuple[str, ...]
    """Options of the run, beside its workflow files and their changes."""
    composed: str
    warnings: tuple[Finding, ...]
    chain: Chain | None = None
    """The chain that it begins; its script is not known yet."""

    @property
    def script(self) -> str:
        """Return the script that reads the workflow files themselves. Raises: UsageError."""
        return batch_script(self.job, MADE_BY)

    @property
    def stdout(self) -> str:
        """The file for the run's output; may hold `%j`."""
        return self.job.stdout

    @property
    def stderr(self) -> str:
        """The file for the run's errors; may hold `%j`."""
        return self.job.stderr

    def stored_script(self, composed_path: Path, chain_path: Path | None = None) -> str:
        """Return the script that reads the composed file: a later edit does not change a queued job. Raises: UsageError."""
        return batch_script(self.stored_job(composed_path, chain_path), MADE_BY)

    def stored_job(self, composed_path: Path, chain_path: Path | None = None) -> BatchJob:
        """Return the job that reads the composed file."""
        chain = () if chain_path is None else ("--chain", str(absolute(chain_path)))
        argv = (*self.program, "--file", str(absolute(composed_path)), *chain, *self.options)
        return replace(self.job, argv=argv)


def prepare(options: BatchOptions, choice: JobChoice) -> PreparedJob:
    """Check that the job's run can be planned, then make its script.

    Raises: SpecError, PlanError, UsageError.
    """
    loaded = load_documents(
        choice.files,
        choice.overrides,
        choice.artifacts,
        choice.missable,
        compat=options.compat,
        refuses_ignored=options.refuses_ignored,
    )
    found = options.layers.of(loaded)
    warnings: list[Finding] = []
    requests = slurm_requests(loaded, _hosts(options))
    has_own_jobs = len(requests) > 1
    if has_own_jobs:
        options, choice = _without_request(options, choice, requests, warnings)
    request = largest(requests) if requests else SlurmRequest()
    request = completed(request, options.layers.said.data, found.settings)
    gpus = _gpus(options, choice, request, warnings)
    nodes = choice.nodes or request.nodes
    plan = _plan(
        options, loaded, found, None if has_own_jobs else request.backend, request.hosts, nodes, gpus
    )
    if nodes is None:
        nodes = _nodes_of_variable(plan) if choice.may_leave_nodes else _nodes_missing(choice)
    program = _program(options, found.settings.python, warnings)
    said = _said_arguments(options, plan)
    rest = (*_options(options, gpus), *_extra_options(options, said if has_own_jobs else ()))
    job = BatchJob(
        name=choice.name or request.job_name or DEFAULT_NAME,
        preamble=tuple(preamble(found).lines()),
        argv=(*program, *_named_options(choice), *rest),
        workspace_dir=str(options.workspace_dir),
        stdout=options.stdout,
        stderr=options.stderr,
        partition=_known("partition", "-p", request.partition, warnings),
        account=_known("account", "-A", request.account, warnings),
        nodes=nodes,
        time=request.time if options.time is None else _time(options.time),
        gpus_per_node=None if options.gpus_per_node is None else gpus or request.gpus_per_node,
        dependencies=options.dependencies,
        requeue=requeue_word() if options.requeue else "",
        allocation_args=without_replaced(_asked(request, options), split_arguments(said)),
        extra_args=said,
        variables={OWN_JOBS: "1", WRAPPER: request.backend or ""} if has_own_jobs else {},
        has_memory_default=any(os.environ.get(name) for name in MEMORY_VARIABLES),
    )
    batch_script(job, MADE_BY)  # a value that a script cannot hold is refused before anything is written
    composed = compose(loaded, options.resolve)
    chain = None if options.chain is None else Chain(cap=options.chain, script="", watched=options.watched)
    return PreparedJob(job, program, rest, composed, (*plan.warnings, *warnings), chain)


def _asked(request: SlurmRequest, options: BatchOptions) -> tuple[str, ...]:
    """Return the options of the file's backend; what the command line waits for replaces the jobs that those name.

    A job whose condition can no longer hold is ended: it would wait for ever.
    """
    given = request.extra_args
    if options.dependencies:
        return tuple(one for one in given if not one.startswith(("--dependency=", "--kill-on-invalid-dep=")))
    waits = any(one.startswith("--dependency=") for one in given)
    says_more = any(one.startswith("--kill-on-invalid-dep") for one in given)
    return (*given, "--kill-on-invalid-dep=yes") if waits and not says_more else given


def _plan(
    options: BatchOptions,
    loaded: LoadedDocument,
    found: Effective,
    backend: str | None,
    hosts: Sequence[str],
    nodes: int | None,
    gpus: int | None,
) -> Plan:
    """Return the plan as the job will make it, with the nodes of `backend`, if that is known, which asks for `hosts`."""
    name = loaded.document.workflow.name
    job_nodes = None
    if nodes is not None and backend is not None:
        others = (f"{backend}-node{i}" for i in range(len(hosts), nodes))
        names = (*hosts[:nodes], *others)
        job_nodes = tuple(JobNode(name, f"0.0.0.{i}") for i, name in enumerate(names, 1))
    context = PlanContext(
        workspace_dir=str(options.workspace_dir),
        output_dir=str(options.output_dir),
        run_directory=str(options.output_dir / "_dry_run" / name),
        run_id=name,
        nodes_override=None,
        gpus_per_node_override=gpus,
        max_running=None,
        path_exists=os.path.exists,
        read_text=lambda path: Path(path).read_text(encoding="utf-8"),
        job_nodes=job_nodes,
        container_engine=found.settings.container_engine,
        given=job_fields(found),
        compat=options.compat,
        include_nodes=options.include_nodes,
        exclude_nodes=options.exclude_nodes,
        skips_artifact_check=options.skip_artifact_check,
        docker_args=split_arguments(options.extra_docker_args),
        monitors_workflow=options.enable_workflow_monitor,
        monitored_tasks=options.enable_task_monitor,
        allow_placeholder_nodes=True,
        may_lack_artifacts=True,  # they must exist on the job's nodes
    )
    return build_plan(loaded, context)


def _without_request(
    options: BatchOptions, choice: JobChoice, requests: Sequence[SlurmRequest], warnings: list[Finding]
) -> tuple[BatchOptions, JobChoice]:
    """Return the options without those that would change the requests of all jobs alike, and note how jobs are made."""
    chosen = largest(requests).backend
    others = ", ".join(request.backend or "" for request in requests if request.backend != chosen)
    what = f"the job is for backend {chosen}; the run in it asks for a job of its own for each of: {others}"
    warnings.append(Finding("several-backends", what))
    given = {
        "-p": options.layers.said.data.get("partition"),
        "-N": choice.nodes,
        "-G": options.gpus_per_node,
    }
    if ignored := [name for name, value in given.items() if value is not None]:
        what = f"{', '.join(ignored)} have no effect: each backend has its own partition, nodes and GPUs"
        warnings.append(Finding("no-effect", what, hint="change the workflow, for example with --set"))
    data = {name: value for name, value in options.layers.said.data.items() if name != "partition"}
    layers = replace(options.layers, said=replace(options.layers.said, data=data))
    return replace(options, layers=layers, gpus_per_node=None), replace(choice, nodes=None)


def _gpus(
    options: BatchOptions, choice: JobChoice, request: SlurmRequest, warnings: list[Finding]
) -> int | None:
    """Return the GPUs per node that the run is planned with; None for the file's number."""
    asked, declared = options.gpus_per_node, request.gpus_per_node
    if asked is None or declared is None or not choice.file_decides_gpus:
        return asked
    if asked != declared:
        what = f"the file's gpus_per_node {declared} is used instead of -G {asked}"
        warnings.append(Finding("file-wins", what))
    return None


def _nodes_of_variable(plan: Plan) -> int | None:
    for name in NODE_COLUMNS:
        value = plan.variables.get(name)
        if value is not None:
            try:
                return as_int(value, 1)
            except NumberError:
                continue
    return None


def _nodes_missing(choice: JobChoice) -> NoReturn:
    raise UsageError.of(
        "nodes-unknown",
        "the job's number of nodes is unknown",
        str(choice.files[-1]),
        "add -N NODES, or a slurm backend with nodes",
    )


def _time(text: str) -> str:
    try:
        return slurm_time(text)
    except NumberError as error:
        raise UsageError.of("wrong-value", f"--time {error}", "--time") from error


def _known(what: str, option: str, asked: str | None, warnings: list[Finding]) -> str:
    """Return the partition or account: the one given, else the cluster's."""
    if asked:
        return asked
    detected = default_partition() if what == "partition" else default_account()
    if detected is None:
        hint = f"name one with {option}, in a slurm backend or in a site file"
        raise UsageError.of(f"{what}-unknown", f"the {what} of the job is unknown", hint=hint)
    text = f"{what} {detected} was found by asking Slurm"
    warnings.append(Finding(f"{what}-detected", text, hint=f"{option} names another"))
    return detected


def _program(options: BatchOptions, python: str | None, warnings: list[Finding]) -> tuple[str, ...]:
    """Return the command that a job runs, without options."""
    # -I: modules in the workspace or on PYTHONPATH must not be imported in place of this program.
    argv = [python or sys.executable, "-I", "-m", "sflow_ctl", "run"]
    if options.venv_dir is not None:
        program = options.venv_dir / ".sflow_venv" / "bin" / "sflow-ctl"
        if not program.exists():
            what = f"{program} does not exist here; the job needs it on its first node"
            warnings.append(Finding("program-not-found", what))
        argv = [str(program), "run"]
    return tuple(argv)


def _named_options(choice: JobChoice) -> tuple[str, ...]:
    """Return the options that name the workflow files and change them."""
    argv: list[str] = []
    for file in choice.files:
        argv += ["--file", str(absolute(file))]
    named = (
        ("--set", choice.overrides), ("--artifact", choice.artifacts), ("--missable-tasks", choice.missable)
    )  # fmt: skip
    for option, values in named:
        for value in values:
            argv += [option, value]
    return tuple(argv)


def _hosts(options: BatchOptions) -> NodeFilter:
    return NodeFilter(options.include_nodes, options.exclude_nodes)


def _options(options: BatchOptions, gpus: int | None) -> tuple[str, ...]:
    """Return the other options of a job's run."""
    argv: list[str] = []
    if gpus is not None:
        argv += ["--gpus-per-node", str(gpus)]
    if "headroom" in options.layers.said.data:
        argv += ["--headroom", str(options.layers.said.data["headroom"])]
    if options.compat != "ours":
        argv += ["--compat", "strict" if options.compat == "0.3.1" else options.compat]
    if options.refuses_ignored:
        argv.append("--strict")
    for hosts in options.include_nodes:
        argv += ["--include-nodes", hosts]
    for hosts in options.exclude_nodes:
        argv += ["--exclude-nodes", hosts]
    if options.enable_workflow_monitor:
        argv.append("--enable-workflow-monitor")
    if options.enable_task_monitor:
        argv += ["--enable-task-monitor", ",".join(options.enable_task_monitor)]
    if options.log_level is not None:
        argv += ["--log-level", options.log_level]
    argv += ["--workspace-dir", str(options.workspace_dir), "--output-dir", str(options.output_dir)]
    return tuple(argv)


def _said_arguments(options: BatchOptions, plan: Plan) -> tuple[str, ...]:
    """Return the `#SBATCH` lines of the command line with their expressions evaluated. Raises: UsageError."""
    names = {**plan.variables, "variables": plan.variables}
    said = []
    for text in options.extra_args:
        try:
            said.append(str(evaluate_any(text, names)))
        except ExpressionError as error:
            raise UsageError.of(
                "expression", str(error), f"-e {text}", "use variables of the workflow"
            ) from error
    return tuple(said)


def _extra_options(options: BatchOptions, said: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options with which the run adds arguments to the programs that it starts.

    `said` are those of the job, for the jobs that the run itself asks for.
    """
    argv = ["--skip-artifact-check"] if options.skip_artifact_check else []
    argv += [f"--extra-salloc-args={text}" for text in said]
    argv += [f"--extra-docker-args={text}" for text in options.extra_docker_args]
    return tuple(argv)
