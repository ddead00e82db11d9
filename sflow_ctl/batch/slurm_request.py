"""Reads what a file's Slurm backend requests for its job, with expressions evaluated."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sflow_ctl.batch.slurm_time import slurm_time
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import evaluate_any
from sflow_ctl.format.loader import LoadedDocument
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.launch.arguments import split_arguments
from sflow_ctl.planner.numbers import as_int
from sflow_ctl.planner.phases.backends import BackendChoice, choose_backends
from sflow_ctl.planner.phases.late_variables import split_late
from sflow_ctl.planner.phases.node_filter import NodeFilter
from sflow_ctl.planner.phases.variables import resolve
from sflow_ctl.planner.source import domains_of, namespace

_KEYS = ("qos", "constraint", "mem", "cpus_per_task", "reservation", "dependency", "mail")


class SlurmRequest(Struct, frozen=True, kw_only=True):
    """The request for a job; a None leaves the choice to settings or Slurm."""

    backend: str | None = None
    """The backend it comes from."""
    nodes: int | None = None
    hosts: tuple[str, ...] = ()
    """Hosts that it names, which are nodes of the job."""
    gpus_per_node: int | None = None
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    job_name: str | None = None
    extra_args: tuple[str, ...] = ()


def completed(request: SlurmRequest, said: Mapping[str, Any], settings: schema.Settings) -> SlurmRequest:
    """Return the request, with fields the file leaves open taken from `settings`; `said`, the command line, wins over both."""

    def options(names: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(f"--{name}={value}" for name, value in names.items() if value is not None)

    open_ones = {name: getattr(settings, name) for name in ("qos", "reservation") if name not in said}
    asked = {name: said.get(name) for name in ("qos", "reservation")}
    return replace(
        request,
        partition=said.get("partition") or request.partition or settings.partition,
        account=said.get("account") or request.account or settings.account,
        # The last of equal options counts.
        extra_args=(*options(open_ones), *request.extra_args, *options(asked)),
    )


def slurm_requests(loaded: LoadedDocument, more: NodeFilter = NodeFilter()) -> tuple[SlurmRequest, ...]:  # noqa: B008 - frozen
    """Return the file's requests to Slurm, one for each Slurm backend that tasks use, else for the first one.

    `more` is the command line's filter of nodes. Raises: PlanError.
    """
    document = loaded.document
    findings = Findings(loaded)
    choice = choose_backends(document, findings)
    early, _ = split_late(document.variables)
    domains = domains_of(document)
    values = resolve(early, {}, domains, "variables", findings)
    findings.stop_if_any()
    requests = []
    for backend in _chosen(choice):
        request = _request(backend, values, domains, findings)
        with findings.collecting("backends", backend.name, subject=f'backend "{backend.name}"'):
            hosts = NodeFilter.of(backend, namespace(values, domains), more)
            request["hosts"] = hosts.included
            no_kill = ("--no-kill",) if survives_lost_nodes(document, backend) else ()
            keys = _keys(backend, namespace(values, domains))
            request["extra_args"] = (*no_kill, *hosts.options(), *keys, *request.get("extra_args", ()))
        requests.append(SlurmRequest(backend=backend.name, **request))
    findings.stop_if_any()
    return tuple(requests)


def _keys(backend: schema.Backend, names: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a backend asks for in keys of its own as options. Raises: UnplannableError, ExpressionError."""
    given = {name: getattr(backend, name) for name in _KEYS}
    if not any(value is not None for value in given.values()):
        return ()
    from sflow_ctl.format.rules.slurm_keys import key_options, problem_of  # few backends have some

    values = {name: _evaluated(value, names) for name, value in given.items() if value is not None}
    for name, value in values.items():
        if (found := problem_of(name, value)) is not None:
            what = f'{name} of backend "{backend.name}": {found[0]}'
            raise UnplannableError("wrong-value", what, found[1], (name,))
    return key_options(values)


def _evaluated(value: Any, names: Mapping[str, Any]) -> Any:
    if not isinstance(value, schema.Mail):
        return evaluate_any(value, names)
    types = [str(evaluate_any(one, names)) for one in value.type]
    return replace(value, user=str(evaluate_any(value.user, names)), type=types)


def survives_lost_nodes(document: schema.Document, backend: schema.Backend) -> bool:
    """Return whether tasks of a backend may start elsewhere when a node is lost: Slurm must not end the job then."""
    workflow = document.workflow
    tasks = (workflow.tasks, *(block.tasks for block in workflow.blocks))
    rules = (task.on_node_lost or workflow.on_node_lost for some in tasks for task in some)
    return backend.spares is not None or "elsewhere" in rules


def used_slurm_backends(loaded: LoadedDocument) -> tuple[str, ...]:
    """Return the names of the Slurm backends that tasks use, in file order; what is wrong with them is found in planning."""
    choice = choose_backends(loaded.document, Findings(loaded))
    return tuple(backend.name for backend in _chosen(choice) if backend.name in choice.used)


def largest(requests: Sequence[SlurmRequest]) -> SlurmRequest:
    """Return the request with most nodes, then most GPUs, the first of equal ones."""

    def size(request: SlurmRequest) -> tuple[int, int]:
        nodes, gpus = request.nodes or 1, request.gpus_per_node or 0
        return nodes, nodes * gpus

    return max(requests, key=size)


def _chosen(choice: BackendChoice) -> list[schema.Backend]:
    slurm = [backend for backend in choice.all if backend.type == "slurm"]
    return [backend for backend in slurm if backend.name in choice.used] or slurm[:1]


def _request(
    backend: schema.Backend, values: Mapping[str, Any], domains: Mapping[str, Any], findings: Findings
) -> dict[str, Any]:
    names = namespace(values, domains)
    converters: dict[str, Callable[[Any], Any]] = {
        "nodes": lambda value: as_int(value, 1),
        "gpus_per_node": lambda value: as_int(value, 0),
        "partition": str,
        "account": str,
        "time": slurm_time,
        "job_name": str,
        "extra_args": split_arguments,
    }
    result: dict[str, Any] = {}
    for field, convert in converters.items():
        value = getattr(backend, field)
        if value is not None:
            with findings.collecting("backends", backend.name, field, subject=f'backend "{backend.name}"'):
                result[field] = convert(evaluate_any(value, names))
    return result
