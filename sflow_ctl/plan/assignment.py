"""Fills in a task once its nodes and GPUs are chosen: arguments of its job step, variables of GPUs, hosts of containers.

Nodes are chosen in the planner, or by the scheduler for a flexible placement; both call these functions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from protocol.messages.checks import Check, Probe, TcpCheck
from protocol.messages.rank_spec import Container
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.plan.parts.launcher import AssignedArgument

SERVICE_KEYS = ("host", "port", "url")
"""What `task.NAME.service` has."""


def node_view(node: PlannedNode, index: int) -> dict[str, Any]:
    """Return a node as expressions see it, with its index among those of a backend or a task.

    A host of a docker backend whose address the file does not say has none.
    """
    view = {"name": node.name, "ip_address": node.address, "index": index, "num_gpus": node.gpus}
    if node.engine_host is not None and not node.is_reachable:
        del view["ip_address"]
    return view


def node_variables(nodes: Sequence[PlannedNode]) -> dict[str, str]:
    """Return the variables that name a task's nodes; those with addresses only where some can be reached."""
    env = {"SFLOW_TASK_ASSIGNED_NODE_NAMES": ",".join(node.name for node in nodes)}
    if not nodes or any(node.is_reachable for node in nodes):
        env["SFLOW_TASK_ASSIGNED_NODE_IPS"] = ",".join(
            node.address if node.is_reachable else "" for node in nodes
        )
    return env


def place_view(nodes: Sequence[PlannedNode], gpus: Sequence[int]) -> dict[str, Any]:
    """Return where a task runs as expressions see it."""
    return {"nodes": [node_view(node, position) for position, node in enumerate(nodes)], "gpus": list(gpus)}


def service_view(nodes: Sequence[Mapping[str, Any]], port: int, is_reachable: bool = True) -> dict[str, Any]:
    """Return where a task serves as expressions see it; `nodes` are views of the task's nodes.

    Host and URL are empty where the address will never be known; one that agents report later is a placeholder until then.
    """
    host = str(nodes[0].get("ip_address", "")) if nodes and is_reachable else ""
    shown = f"[{host}]" if ":" in host else host
    return {"host": host, "port": port, "url": f"http://{shown}:{port}" if host else ""}


def assigned_argv(
    argv: tuple[str, ...], arguments: Sequence[AssignedArgument], nodes: Sequence[PlannedNode]
) -> tuple[str, ...]:
    """Fill in the arguments of a job step whose nodes were not known when it was planned."""
    words = list(argv)
    for argument in arguments:
        match argument.value:
            case "node_names":
                words[argument.position] = ",".join(node.name for node in nodes[: argument.at_most])
            case "het_group":
                words[argument.position] = str(nodes[0].het_group)
    return tuple(words)


def gpu_environment(gpus: Sequence[int]) -> dict[str, str]:
    """Return the variables that name a task's GPUs, counted within what its agents may use; none without GPUs.

    The agent replaces the value of `CUDA_VISIBLE_DEVICES` by the GPUs' names on its node; `SFLOW_TASK_GPUS` stays.
    `SFLOW_GPU_PLAN` is sflow's name for these numbers, which its samples read.
    """
    if not gpus:
        return {}
    indices = ",".join(map(str, gpus))
    return {"CUDA_VISIBLE_DEVICES": indices, "SFLOW_TASK_GPUS": indices, "SFLOW_GPU_PLAN": indices}


def container_on(container: Container | None, node: PlannedNode) -> Container | None:
    """Return the container as the engine of a node's machine starts it."""
    host = node.engine_host
    if container is None or host is None:
        return container
    return replace(
        container,
        docker_host=host.docker_host,
        context=host.context,
        mounts=(*container.mounts, *host.mounts),
        extra_args=(*container.extra_args, *host.extra_args),
        requests_gpus=not host.simulates_gpus,
    )


def probes_on(probes: tuple[Probe, ...], node: PlannedNode) -> tuple[Probe, ...]:
    """Return the probes with checks of the node's own ports made from outside: its agent is on another machine."""
    if node.engine_host is None or not node.is_reachable:
        return probes
    return tuple(_from_outside(probe, node.address) for probe in probes)


def _from_outside(probe: Probe, address: str) -> Probe:
    def told(check: Check) -> Check:
        is_own = isinstance(check, TcpCheck) and check.host is None
        return replace(check, host=address, owner="any") if is_own else check

    return replace(
        probe,
        checks=tuple(map(told, probe.checks)),
        also=tuple(_from_outside(one, address) for one in probe.also),
    )
