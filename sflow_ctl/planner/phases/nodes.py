"""The nodes of a backend: those of an allocation, local ones, or placeholders while there is no allocation."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from protocol.text.counted import counted
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import evaluate_any
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.planner.context import JobNode, PlanContext
from sflow_ctl.planner.fields import number
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import MAX_COUNT, as_count
from sflow_ctl.planner.phases.node_filter import NodeFilter


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
    if backend.nodes is not None:
        declared = number(subject, ("nodes",), as_count, evaluate_any(backend.nodes, names))
    hosts = NodeFilter.of(backend, names, NodeFilter(context.include_nodes, context.exclude_nodes))
    is_in_job = backend.type == "slurm" and context.nodes_override is None and job.left
    if is_in_job and is_used:
        given = job.take(backend.name, declared, hosts)
    elif is_in_job:
        given = ()
    else:
        count = context.nodes_override if context.nodes_override is not None else max(1, declared)
        given = _placeholder_nodes(backend, count, is_used, context)
        if backend.hosts and context.nodes_override is None:
            given = _kept(backend.name, given, hosts)
    return [
        PlannedNode(
            index=first + index,
            backend=backend.name,
            backend_type="slurm" if backend.type == "slurm" and context.nodes_override is None else "local",
            backend_index=index,
            name=node.name,
            address=node.address,
            gpus=_gpus_of_host(backend, index, names, gpus, context),
            het_group=node.het_group,
        )
        for index, node in enumerate(given)
    ]


def _check_options(context: PlanContext) -> None:
    """Refuse options that no machine could fulfil. Raises: UnplannableError."""
    given = (("--nodes", context.nodes_override), ("--gpus-per-node", context.gpus_per_node_override))
    for option, count in given:
        if count is not None and count > MAX_COUNT:
            raise UnplannableError("wrong-value", f"{option} must be at most {MAX_COUNT}, is {count}")


def _gpus_of_host(
    backend: schema.Backend, index: int, names: Mapping[str, Any], gpus: int | None, context: PlanContext
) -> int | None:
    """Return the GPUs of a docker backend's host, or of any node. Raises: UnplannableError."""
    if not backend.hosts or context.nodes_override is not None or context.gpus_per_node_override is not None:
        return gpus
    written = backend.hosts[index].gpus_per_node
    path = ("hosts", index, "gpus_per_node")
    if written is None:
        return gpus
    return number(f'backend "{backend.name}"', path, as_count, evaluate_any(written, names), 0)


class JobNodes:
    """Hands out the nodes of the Slurm job to the slurm backends in file order."""

    def __init__(
        self, nodes: tuple[JobNode, ...] | None, backends: Sequence[schema.Backend], names: Mapping[str, Any]
    ) -> None:
        """`backends` are those that tasks use, `names` the values of their expressions."""
        self.left = nodes or ()
        self.differing: list[tuple[str, str]] = []
        """Backends that declare other numbers of nodes than they get, each with the sentence about it."""
        self._has_one_backend = len(backends) == 1
        self._named: set[str] = set()
        """Hosts that a backend asks for by name: the others take them last."""
        for backend in backends if len(backends) > 1 else ():
            with contextlib.suppress(
                UnplannableError, ExpressionError
            ):  # a finding where its nodes are taken
                self._named.update(NodeFilter.of(backend, names, NodeFilter()).included)

    def take(self, backend: str, declared: int, hosts: NodeFilter) -> tuple[JobNode, ...]:
        """Return a backend's nodes: all of them for the only one, else as many as it declares; only those of `hosts`.

        Raises: UnplannableError.
        """
        able = _kept(backend, self.left, hosts)
        if self._has_one_backend:
            if declared != len(able):
                has = f"the job has {len(able)}" + ("" if hosts.is_empty else " that it may use")
                text = f'backend "{backend}" declares {counted(declared, "node")}, {has}: those are used'
                self.differing.append((backend, text))
            return able
        if declared > len(able):
            what = (
                f'backend "{backend}" needs {counted(declared, "node")}, only {len(able)} of the job are left'
            )
            raise UnplannableError(
                "nodes-do-not-fit", what, "ask Slurm for more, or run the backends one by one"
            )
        others = {node.name for node in able if node.name in self._named and node.name not in hosts.included}
        part = sorted(able, key=lambda node: node.name in others)[:declared]
        part = [node for node in able if node in part]
        self.left = tuple(node for node in self.left if node not in part)
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
    if backend.hosts and context.nodes_override is None:
        return tuple(JobNode(host.name, host.ip_address or "") for host in backend.hosts)
    if backend.type != "slurm" or context.nodes_override is not None:
        name, address = context.here
        return tuple(JobNode(name if i == 0 else f"{name}-{i}", address) for i in range(count))
    if is_used and not context.allow_placeholder_nodes:
        what = f'backend "{backend.name}" needs a Slurm allocation, and this process is not in one'
        raise UnplannableError(
            "slurm-not-available", what, "run it on local agents: --nodes N --gpus-per-node G"
        )
    return tuple(JobNode(f"{backend.name}-node{i}", f"0.0.0.{i + 1}") for i in range(count))
