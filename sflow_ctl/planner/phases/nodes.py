"""The nodes of a backend: those of an allocation, local ones, or placeholders while there is no allocation."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from protocol.text.counted import counted
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import evaluate_any
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.plan.parts.engine_host import EngineHost
from sflow_ctl.planner.context import UNKNOWN_ADDRESS, JobNode, PlanContext
from sflow_ctl.planner.fields import number
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.launch.arguments import split_arguments
from sflow_ctl.planner.numbers import MAX_COUNT, as_count, as_int
from sflow_ctl.planner.phases.node_filter import NodeFilter

OWN_JOBS, WRAPPER = "SFLOW_SLURM_MULTI_BACKEND_SALLOC", "SFLOW_SLURM_WRAPPER_BACKEND"
"""Variables of a job: all backends but the named one get jobs of their own. Source: sflow 0.3.1, set by its `batch`."""


def backend_nodes(
    backend: schema.Backend,
    names: Mapping[str, Any],
    first: int,
    is_used: bool,
    context: PlanContext,
    job: "JobNodes",
) -> list[PlannedNode]:
    """Return a backend's nodes, the first with the run-wide index `first`.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    subject = f'backend "{backend.name}"'
    _check_options(context)
    gpus = context.gpus_per_node_override
    if gpus is None and backend.gpus_per_node is not None:
        gpus = number(subject, ("gpus_per_node",), as_count, evaluate_any(backend.gpus_per_node, names), 0)
    declared = 1
    if backend.type in schema.JOB_BACKENDS:
        gpus = 0  # nodes and GPUs are those of each job; this machine only watches
    elif backend.nodes is not None:
        declared = number(subject, ("nodes",), as_count, evaluate_any(backend.nodes, names))
    wait = None
    if backend.wait_for_gpus is not None:
        value = evaluate_any(backend.wait_for_gpus, names)
        wait = number(subject, ("wait_for_gpus",), as_int, value, 0)
    hosts = NodeFilter.of(backend, names, NodeFilter(context.include_nodes, context.exclude_nodes))
    is_in_job = backend.type == "slurm" and context.nodes_override is None and job.is_for(backend.name)
    if is_in_job and is_used:
        given = job.take(backend.name, declared, hosts)
    elif is_in_job:
        given = ()
    else:
        asked = None if backend.type in schema.JOB_BACKENDS else context.nodes_override
        count = asked if asked is not None else max(1, declared)
        if backend.hosts and context.nodes_override is None:
            return _docker_nodes(backend, names, first, gpus, hosts, context)
        given = _placeholder_nodes(backend, count, is_used, context)
    spares = _spares(backend, names, len(given), hosts) if is_used or not is_in_job else 0
    return [
        PlannedNode(
            index=first + index,
            backend=backend.name,
            is_spare=index >= len(given) - spares,
            backend_type="slurm" if backend.type == "slurm" and context.nodes_override is None else "local",
            backend_index=index,
            name=node.name,
            address=node.address,
            gpus=gpus,
            het_group=node.het_group,
            job_id=node.job_id,
            wait_for_gpus=wait,
            is_reachable=backend.type != "docker" or context.nodes_override is not None,
        )
        for index, node in enumerate(given)
    ]


def _spares(backend: schema.Backend, names: Mapping[str, Any], nodes: int, hosts: NodeFilter) -> int:
    """Return how many of a backend's nodes are held back. Raises: UnplannableError, NumberError, ExpressionError."""
    if backend.spares is None:
        return 0
    spares = number(
        f'backend "{backend.name}"', ("spares",), as_count, evaluate_any(backend.spares, names), 0
    )
    if spares >= max(nodes, 1):
        that = "" if hosts.is_empty else " that include_nodes and exclude_nodes leave"
        what = f'backend "{backend.name}" holds back {counted(spares, "spare node")} of {counted(nodes, "node")}{that}'
        hint = (
            "no node is left for tasks: spares are some of the nodes, so ask for more nodes or fewer spares"
        )
        raise UnplannableError("spares-do-not-fit", what, hint, ("spares",))
    return spares


def _check_options(context: PlanContext) -> None:
    """Refuse options that no machine could fulfil. Raises: UnplannableError."""
    given = (("--nodes", context.nodes_override), ("--gpus-per-node", context.gpus_per_node_override))
    for option, count in given:
        if count is not None and count > MAX_COUNT:
            raise UnplannableError("wrong-value", f"{option} must be at most {MAX_COUNT}, is {count}")


def _docker_nodes(
    backend: schema.Backend,
    names: Mapping[str, Any],
    first: int,
    gpus: int | None,
    hosts: NodeFilter,
    context: PlanContext,
) -> list[PlannedNode]:
    """Return the hosts of a docker backend that may be used, as nodes. Raises: UnplannableError, ExpressionError."""
    machines = [_docker_host(backend, index, names) for index in range(len(backend.hosts or ()))]
    known = {machine.name: (index, machine) for index, machine in enumerate(machines)}
    kept = _kept(backend.name, [JobNode(machine.name) for machine in machines], hosts)
    nodes = []
    for position, (index, machine) in enumerate(known[node.name] for node in kept):
        own = gpus
        if machine.gpus_per_node is not None and context.gpus_per_node_override is None:
            path = ("hosts", index, "gpus_per_node")
            own = number(f'backend "{backend.name}"', path, as_count, machine.gpus_per_node, 0)
        nodes.append(
            PlannedNode(
                index=first + position,
                backend=backend.name,
                backend_index=position,
                name=machine.name,
                address=machine.ip_address or UNKNOWN_ADDRESS,
                is_reachable=machine.ip_address is not None,
                gpus=own,
                engine_host=EngineHost(
                    docker_host=machine.docker_host,
                    context=machine.context,
                    mounts=tuple(machine.mounts),
                    extra_args=split_arguments(machine.extra_args),
                ),
            )
        )
    return nodes


def _docker_host(backend: schema.Backend, index: int, names: Mapping[str, Any]) -> schema.DockerHost:
    """Return a host with its expressions evaluated. Raises: UnplannableError, ExpressionError."""
    written = (backend.hosts or [])[index]
    body = evaluate_any(msgspec.structs.asdict(written), names)
    for name in ("name", "docker_host", "context", "ip_address"):
        body[name] = None if body[name] is None else str(body[name])
        if body[name] is not None and (not body[name].strip() or body[name].startswith("-")):
            what = f'backend "{backend.name}": "{name}" of host {index + 1} is "{body[name]}"'
            hint = "write a name or an address; it cannot begin with a dash"
            raise UnplannableError("wrong-value", what, hint, ("hosts", index, name))
    for name in ("mounts", "extra_args"):
        body[name] = [str(value) for value in body[name]]
    return schema.DockerHost(**body)


def job_of(nodes: Sequence[PlannedNode], context: PlanContext) -> str:
    """Return the Slurm job of a backend's nodes, which are all of one; "0" while there is none."""
    return (nodes[0].job_id if nodes else None) or context.job_id


class JobNodes:
    """Hands out the nodes of Slurm jobs to the slurm backends in file order: those of a job that they share, or of their own."""

    def __init__(
        self, nodes: tuple[JobNode, ...] | None, backends: Sequence[schema.Backend], names: Mapping[str, Any]
    ) -> None:
        """`backends` are those that tasks use, `names` the values of their expressions."""
        self._left = nodes or ()
        self.differing: list[tuple[str, str]] = []
        """Backends that declare other numbers of nodes than they get, each with the sentence about it."""
        self._has_one_backend = len(backends) == 1
        self._is_shared = any(node.backend is None for node in self._left)
        self._named: set[str] = set()
        """Hosts that a backend asks for by name: the others take them last."""
        for backend in backends if len(backends) > 1 else ():
            with contextlib.suppress(
                UnplannableError, ExpressionError
            ):  # a finding where its nodes are taken
                self._named.update(NodeFilter.of(backend, names, NodeFilter()).included)

    def is_for(self, backend: str) -> bool:
        """Return whether there is a job that the backend has nodes in."""
        return self._is_shared or any(node.backend == backend for node in self._left)

    def take(self, backend: str, declared: int, hosts: NodeFilter) -> tuple[JobNode, ...]:
        """Return a backend's nodes: all of its own job, else as many as it declares; only those of `hosts`.

        Raises: UnplannableError.
        """
        own = [node for node in self._left if node.backend in (None, backend)]
        able = _kept(backend, own, hosts)
        if self._has_one_backend or not self._is_shared:
            if declared != len(able):
                has = f"the job has {len(able)}" + ("" if hosts.is_empty else " that it may use")
                text = f'backend "{backend}" declares {counted(declared, "node")}, {has}: those are used'
                self.differing.append((backend, text))
            return able
        if declared > len(able):
            what = (
                f'backend "{backend}" needs {counted(declared, "node")}, only {len(able)} of the job are left'
            )
            hint = f"ask Slurm for more, or set {OWN_JOBS}=1 and {WRAPPER}=BACKEND: the others get jobs of their own"
            raise UnplannableError("nodes-do-not-fit", what, hint)
        others = {node.name for node in able if node.name in self._named and node.name not in hosts.included}
        part = sorted(able, key=lambda node: node.name in others)[:declared]
        part = [node for node in able if node in part]
        self._left = tuple(node for node in self._left if node not in part)
        return tuple(part)


def _kept(backend: str, nodes: Sequence[JobNode], hosts: NodeFilter) -> tuple[JobNode, ...]:
    """Return the nodes that a backend may use. Raises: UnplannableError if none is left."""
    kept = hosts.kept(nodes)
    if nodes and not kept:
        names = ", ".join(node.name for node in nodes[:8])
        what = f'backend "{backend}": include_nodes and exclude_nodes removed all nodes: {names}'
        raise UnplannableError("no-nodes-left", what, "correct the names of hosts")
    return kept


def _placeholder_nodes(
    backend: schema.Backend, count: int, is_used: bool, context: PlanContext
) -> tuple[JobNode, ...]:
    if backend.type != "slurm" or context.nodes_override is not None:
        name, address = context.here
        return tuple(JobNode(name if i == 0 else f"{name}-{i}", address) for i in range(count))
    if is_used and not context.allow_placeholder_nodes:
        what = f'backend "{backend.name}" needs a Slurm allocation, and this process is not in one'
        raise UnplannableError(
            "slurm-not-available", what, "run it on local agents: --nodes N --gpus-per-node G"
        )
    return tuple(JobNode(f"{backend.name}-node{i}", f"0.0.0.{i + 1}") for i in range(count))
