"""Waits until agents have called before a run begins: what they are and have decides its nodes, and whether it can."""

import os
import time
from dataclasses import dataclass
from typing import Protocol

import zmq

from protocol.errors import LaunchError
from protocol.messages import Inventory
from sflow_ctl.core.events import AgentJoined, AgentLost
from sflow_ctl.runtime.addresses import interfaces
from sflow_ctl.runtime.link import FleetLink


class Starter(Protocol):
    """What is asked of whoever starts the agents that are awaited."""

    @property
    def fileno(self) -> int:
        """Readable when an agent has ended."""
        ...

    def ended(self) -> list[tuple[int, str]]:
        """(node, how) of agents that have ended since the last call."""
        ...

    def said(self) -> str:
        """What there is to read of the start."""
        ...


@dataclass(frozen=True, slots=True)
class Muster:
    """Who has called, by node; their hellos are answered when the run begins."""

    joined: dict[int, AgentJoined]
    step_end: str | None = None
    """How the job step ended meanwhile: a node that srun cannot reach takes all the others with it."""

    def addresses(self) -> dict[str, str]:
        """Of the nodes that have called, by name."""
        return {event.hello.node_name: event.hello.address for event in self.joined.values()}

    def inventories(self) -> dict[int, Inventory]:
        """What each node has."""
        return {node: event.hello.inventory for node, event in self.joined.items()}


def muster(
    link: FleetLink, launcher: Starter, expected: dict[int, str], within_s: float, min_nodes: int
) -> Muster:
    """Returns when the agents of `expected` (node to name) have called; or, after `within_s` or with the end of the
    step, if at least `min_nodes` of them have.

    Raises: LaunchError naming who is missing, with what srun said.
    """
    poller = zmq.Poller()
    link.register(poller)
    poller.register(launcher.fileno, zmq.POLLIN)
    joined: dict[int, AgentJoined] = {}
    deadline = time.monotonic() + within_s
    while len(joined) < len(expected):
        left = deadline - time.monotonic()
        ended = launcher.ended()
        if left <= 0 or ended:
            step_end = ended[0][1] if ended else None
            if len(joined) >= min_nodes:
                return Muster(joined, step_end)
            raise _incomplete(expected, joined, step_end or launcher.said(), within_s, link.control_endpoints)
        poller.poll(max(1, int(left * 1000)))
        for event in link.receive(time.monotonic()):
            if isinstance(event, AgentJoined) and event.hello.node in expected:
                joined[event.hello.node] = event
            elif isinstance(event, AgentLost):
                raise LaunchError.of(
                    "agent-refused",
                    f"node {expected[event.node]}: {event.reason}",
                    hint="install one version everywhere",
                )
    return Muster(joined)


def _incomplete(
    expected: dict[int, str],
    joined: dict[int, AgentJoined],
    said: str,
    within_s: float,
    endpoints: tuple[str, ...],
) -> LaunchError:
    missing = [name for node, name in expected.items() if node not in joined]
    shown = ", ".join(missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
    what = f"{len(missing)} of {len(expected)} agents have not reported within {within_s:g} s: {shown}"
    what += f"\n  they were told to call {', '.join(one.removeprefix('tcp://') for one in endpoints)}"
    if said:
        what += f"\n  {said}"
    hint = (
        f"can the compute nodes reach that? another way may be one of {', '.join(interfaces())} (--interface)"
    )
    if "SLURMD_NODENAME" not in os.environ:  # this is no node of a job
        hint += "; nodes of a job reach each other: run inside the allocation, with sflow-ctl batch"
    if joined:
        hint += "; go on without the missing ones with --min-nodes"
    return LaunchError.of("agents-missing", what, where=missing[0], hint=hint)
