"""Decides which nodes test connections to which others, and judges the results."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from protocol.messages.inspection import MeshResult, MeshTarget
from sflow_ctl.doctor.facts import ExaminedNode
from sflow_ctl.doctor.verdicts import Topic, Verdict, fail, names, ok, seconds, topic, warn

FULL_MESH_NODES = 16
"""Up to this number every node connects to every other."""
SLOW_S = 0.5
"""A connection within a cluster takes a millisecond; a lost packet is repeated after a second."""
MOST_PAIRS = 12
_NO_MESH = ("lo", "docker", "virbr", "veth", "cni", "flannel", "cali", "tunl", "podman", "vxlan", "ib_bond")
"""Interfaces that are not for connections between nodes.

Bridges of containers have the same address on every node.
"""
_FIX_PAIR = "check the firewalls and the switch between them, or leave a node out: sbatch --exclude={}"


def callees(count: int) -> list[list[int]]:
    """Return, for each of `count` nodes, the nodes that it connects to: all others, or those 1, 2, 4, 8... places further.

    So every node is called by as many as it calls, a broken one is seen by several, and a thousand nodes need
    ten connections each.
    """
    if count <= FULL_MESH_NODES:
        return [[other for other in range(count) if other != node] for node in range(count)]
    strides = [1 << bit for bit in range(count.bit_length()) if 1 << bit < count]
    return [[(node + stride) % count for stride in strides] for node in range(count)]


def targets(nodes: Sequence[ExaminedNode]) -> list[tuple[MeshTarget, ...]]:
    """Return the addresses that each node connects to. Nodes that do not listen are left out."""
    listed = [_addresses(node) for node in nodes]
    seen: dict[str, int] = defaultdict(int)
    for addresses in listed:
        for address in {address for _, address in addresses}:
            seen[address] += 1

    def of(index: int) -> list[MeshTarget]:
        node = nodes[index]
        port = node.report.mesh_port if node.report is not None else 0
        return [
            MeshTarget(
                node=node.index,
                interface=interface,
                address=address,
                port=port,
                is_primary=address == node.address,
            )
            for interface, address in listed[index]
            # An address that several nodes have is private to each, unless it is the one that tasks get.
            if port and (address == node.address or seen[address] == 1)
        ]

    return [tuple(target for other in others for target in of(other)) for others in callees(len(nodes))]


def _addresses(node: ExaminedNode) -> list[tuple[str, str]]:
    """Return (interface, address) pairs that other nodes may use, the one that tasks get first."""
    known = node.report.addresses if node.report is not None else ()
    primary = next((interface for interface, address in known if address == node.address), "")
    if node.address.startswith("127."):
        return [(primary, node.address)]
    others = [
        (interface, address)
        for interface, address in known
        if address != node.address
        and not interface.startswith((*_NO_MESH, "br-"))
        and not address.startswith(("fe80:", "169.254.", "127."))
        and address != "::1"
    ]
    return [(primary, node.address), *others] if node.address else others


def mesh_topic(nodes: Sequence[ExaminedNode]) -> Topic:
    """Judge whether nodes reach each other."""
    place = {node.index: place for place, node in enumerate(nodes)}
    links = [
        (source, msgspec.structs.replace(result, node=place[result.node]))
        for source, node in enumerate(nodes)
        for result in node.mesh
        if result.node in place
    ]
    primary = [(source, result) for source, result in links if result.is_primary]
    verdicts = [*_primary(nodes, primary), *_secondary(nodes, links), *_slow(nodes, links)]
    works = [(source, result) for source, result in links if not result.problem]
    for source, result in works:
        where = f"{nodes[result.node].name} at {result.address}"
        verdicts.append(ok(nodes[source].name, f"{where} in {seconds(result.connect_s)}"))
    if not links:
        summary = "one node" if len(nodes) == 1 else "no connection could be tested"
    else:
        slowest = max((result.connect_s for _, result in works), default=0.0)
        summary = f"{len(works)} of {len(links)} connections between {len(nodes)} nodes, the slowest in {seconds(slowest)}"
    return topic("mesh", summary, verdicts)


def _primary(nodes: Sequence[ExaminedNode], links: list[tuple[int, MeshResult]]) -> list[Verdict]:
    """Judge failures at the addresses that tasks get."""
    failed = {(source, result.node): result for source, result in links if result.problem}
    called_by: dict[int, set[int]] = defaultdict(set)
    calls: dict[int, set[int]] = defaultdict(set)
    for source, result in links:
        called_by[result.node].add(source)
        calls[source].add(result.node)
    verdicts: list[Verdict] = []
    for index, node in enumerate(nodes):
        is_deaf = len(called_by[index]) > 1 and all((other, index) in failed for other in called_by[index])
        is_mute = len(calls[index]) > 1 and all((index, other) in failed for other in calls[index])
        if not is_deaf and not is_mute:
            continue
        results = [failed[other, index] for other in called_by[index]] if is_deaf else []
        why = _reasons(results or [failed[index, other] for other in calls[index]])
        if is_deaf and is_mute:
            text = f"reaches no other node and is reached by none ({node.address}: {why})"
        elif is_deaf:
            text = f"cannot be reached by any other node ({node.address}: {why})"
        else:
            text = f"reaches no other node ({why})"
        fix = f"check its network and firewall, or leave it out: sbatch --exclude={node.name}"
        verdicts.append(fail(node.name, text, fix))
        for other in range(len(nodes)):
            if is_deaf:
                failed.pop((other, index), None)
            if is_mute:
                failed.pop((index, other), None)
    return verdicts + _pairs(nodes, failed)


def _pairs(nodes: Sequence[ExaminedNode], failed: dict[tuple[int, int], MeshResult]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    done: set[tuple[int, int]] = set()
    for (source, target), result in sorted(failed.items(), key=lambda item: item[0]):
        if (source, target) in done:
            continue
        caller, callee = nodes[source].name, nodes[target].name
        fix = _FIX_PAIR.format(callee)
        back = failed.get((target, source))
        if back is not None:
            done.add((target, source))
            text = f"{caller} and {callee} do not reach each other ({_at(result)}; {_at(back)})"
            verdicts.append(fail((), text, fix))
        else:
            verdicts.append(fail(caller, f"does not reach {callee} ({_at(result)})", fix))
    if len(verdicts) > MOST_PAIRS:
        rest = len(verdicts) - MOST_PAIRS
        more = fail((), f"{rest} more pairs of nodes do not reach each other", "all are in --json")
        return [*verdicts[:MOST_PAIRS], more]
    return verdicts


def _secondary(nodes: Sequence[ExaminedNode], links: list[tuple[int, MeshResult]]) -> list[Verdict]:
    """Judge addresses beside the one that tasks get: software that picks an interface by itself may use these."""
    tried: dict[tuple[str, int, str], list[MeshResult]] = defaultdict(list)
    for _, result in links:
        if not result.is_primary:
            tried[result.interface, result.node, result.address].append(result)
    bad: dict[str, list[tuple[int, str, list[MeshResult]]]] = defaultdict(list)
    for (interface, node, address), results in tried.items():
        if any(result.problem for result in results):
            bad[interface].append((node, address, results))
    good = next((result.interface for _, result in links if result.is_primary and not result.problem), "eth0")
    fix = f"set the interface of programs: NCCL_SOCKET_IFNAME={good} GLOO_SOCKET_IFNAME={good} in the variables of tasks"
    verdicts = []
    for interface, addresses in bad.items():
        wrong = [result for _, _, results in addresses for result in results if result.problem]
        count = sum(len(results) for _, _, results in addresses)
        shown = names([address for _, address, _ in addresses])
        text = (
            f"interface {interface}: {len(wrong)} of {count} connections to {shown} fail ({_reasons(wrong)})"
        )
        reached = tuple(nodes[node].name for node, _, _ in addresses)
        verdicts.append(warn(reached, text, fix))
    return verdicts


def _slow(nodes: Sequence[ExaminedNode], links: list[tuple[int, MeshResult]]) -> list[Verdict]:
    """Return one line for each node with slow connections."""
    slow: dict[int, list[MeshResult]] = defaultdict(list)
    for source, result in links:
        if not result.problem and result.connect_s >= SLOW_S:
            slow[source].append(result)
    verdicts = []
    for source, results in slow.items():
        others = names(list(dict.fromkeys(nodes[result.node].name for result in results)))
        worst = max(result.connect_s for result in results)
        text = f"took up to {seconds(worst)} to reach {others}"
        verdicts.append(
            warn(
                nodes[source].name,
                text,
                "packets are lost on the way: check its cable, port and errors (ip -s link)",
            )
        )
    return verdicts


def _reasons(results: Sequence[MeshResult]) -> str:
    """Return why connections failed, each reason once."""
    return ", ".join(dict.fromkeys(result.problem for result in results))


def _at(result: MeshResult) -> str:
    interface = f" on {result.interface}" if result.interface else ""
    return f"{result.address}{interface}: {result.problem}"
