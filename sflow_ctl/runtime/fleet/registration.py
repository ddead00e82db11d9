"""Waits until agents have joined before a run begins: their facts decide its nodes, and whether it can begin."""

import math
import os
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from protocol.errors import LaunchError
from protocol.messages.facts import Hello
from protocol.messages.node import Inventory
from protocol.text.listing import listed
from sflow_ctl.core.events import AgentJoined, AgentLost
from sflow_ctl.runtime.fleet.addresses import interfaces
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.fleet.local import AgentEnd
from sflow_ctl.slurm.hints import srun_hint

SAY_AFTER_S, HINT_AFTER_S = 5.0, 30.0
"""When the user is informed of the wait, and when also of remedies; sooner with a short time limit."""
SHOWN_NODES = 20
_NOT_STARTED = "does another step hold the nodes? start it with --overlap and --mem=0; `squeue --steps --me` shows the steps"
_ENDED = "`srun --overlap hostname` in the same job shows whether Slurm starts anything there"


class Starter(Protocol):
    """The interface of a launcher whose agents are awaited."""

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when an agent has ended."""
        ...

    def ended(self) -> list[AgentEnd]:
        """The ends of agents since the last call."""
        ...

    def said(self) -> str:
        """Return the output of the start."""
        ...


class JoinedAgents(Struct, frozen=True):
    """The agents that have joined, by node; their hellos are answered when the run begins."""

    joined: dict[int, AgentJoined]
    ended: tuple[int, ...] = ()
    """Nodes whose job step ended meanwhile: a node that srun cannot reach ends all the others with it."""

    def addresses(self) -> dict[str, str]:
        """Return the addresses of the nodes that have joined, by name.

        The agent beside the controller reaches each of this host's addresses: the other agents know which one
        works.
        """
        hellos = [event.hello for event in self.joined.values()]
        ways = Counter(way for hello in hellos if (way := _called(hello)) != hello.address)
        good = next((way for way, _ in ways.most_common(1)), None)
        return {
            hello.node_name: good if good and _called(hello) == hello.address else hello.address
            for hello in hellos
        }

    def gpu_bytes(self) -> dict[str, int]:
        """Return the memory of the smallest GPU of the nodes that have joined, by name; 0 where no driver says it."""
        hellos = [event.hello for event in self.joined.values()]
        return {hello.node_name: hello.inventory.smallest_gpu_bytes for hello in hellos}

    def inventories(self) -> dict[int, Inventory]:
        """Return the inventory of each node."""
        return {node: event.hello.inventory for node, event in self.joined.items()}


def wait_for_agents(
    link: FleetLink,
    launcher: Starter,
    expected: dict[int, str],
    within_s: float,
    min_nodes: int,
    say: Callable[[str], object] = lambda _: None,
) -> JoinedAgents:
    """Return when the agents of `expected` (node to name) have joined.

    Or, after `within_s` or at the end of the step, if at least `min_nodes` of them have. `say` gets a line
    about missing ones meanwhile.

    Raises: LaunchError naming the missing ones, with the output of srun.
    """
    link.waiting.add(launcher.fileno)
    try:
        return _wait_for_agents(link, launcher, expected, within_s, min_nodes, say)
    finally:
        link.waiting.remove(launcher.fileno)


def _wait_for_agents(
    link: FleetLink,
    launcher: Starter,
    expected: dict[int, str],
    within_s: float,
    min_nodes: int,
    say: Callable[[str], object],
) -> JoinedAgents:
    joined: dict[int, AgentJoined] = {}
    began = time.monotonic()
    deadline = began + within_s
    reminders = [began + min(SAY_AFTER_S, within_s / 4), began + min(HINT_AFTER_S, within_s / 2)]
    while len(joined) < len(expected):
        now = time.monotonic()
        ended = launcher.ended()
        if now >= deadline or ended:
            step_end = ended[0].how if ended else None
            if len(joined) >= min_nodes:
                return JoinedAgents(joined, tuple(end.node for end in ended))
            shortage, endpoints = link.transport.shortage(), link.transport.control_endpoints
            raise _incomplete(expected, joined, step_end, launcher.said(), within_s, endpoints, shortage)
        if reminders and now >= reminders[0]:
            del reminders[0]
            say(_waiting(expected, joined, launcher.said(), now - began, needs_hint=not reminders))
        link.wait(max(1, math.ceil((min((deadline, *reminders)) - now) * 1000)))
        for event in link.receive(time.monotonic()):
            if isinstance(event, AgentJoined) and event.hello.node in expected:
                joined[event.hello.node] = event
            elif isinstance(event, AgentLost):
                raise LaunchError.of(
                    "agent-refused",
                    f"node {expected[event.node]}: {event.reason}",
                    hint="install one version everywhere",
                )
    return JoinedAgents(joined)


def _called(hello: Hello) -> str:
    """Return the controller's address that an agent has connected to."""
    return hello.endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def _missing(expected: dict[int, str], joined: dict[int, AgentJoined]) -> tuple[list[str], str]:
    missing = [name for node, name in expected.items() if node not in joined]
    return missing, listed(missing, SHOWN_NODES)


def _waiting(
    expected: dict[int, str], joined: dict[int, AgentJoined], said: str, after_s: float, *, needs_hint: bool
) -> str:
    missing, shown = _missing(expected, joined)
    text = f"waiting for {len(missing)} of {len(expected)} agents since {after_s:.0f} s: {shown}"
    if said:
        text += "\n" + textwrap.indent(said, "  ")
    if needs_hint:
        text += f"\n  hint:  {srun_hint(said) or _NOT_STARTED}"
    return text


def _silent() -> str:
    hint = f"can the compute nodes reach that address? if not, try one of {', '.join(interfaces())} (--interface)"
    if "SLURMD_NODENAME" not in os.environ:  # this host is not a node of a job
        hint += "; nodes of a job reach each other: run inside the allocation, with sflow-ctl batch"
    return hint


def _incomplete(
    expected: dict[int, str],
    joined: dict[int, AgentJoined],
    step_end: str | None,
    said: str,
    within_s: float,
    endpoints: tuple[str, ...],
    shortage: str | None,
) -> LaunchError:
    missing, shown = _missing(expected, joined)
    what = f"{len(missing)} of {len(expected)} agents have not reported"
    if step_end:
        what += f": {shown}"
    else:
        what += f" within {within_s:g} s: {shown}"
        what += (
            f"\n  they were given the address {', '.join(one.removeprefix('tcp://') for one in endpoints)}"
        )
    words = step_end or said
    if words:
        what += "\n" + textwrap.indent(words, "  ")
    hint = shortage or srun_hint(words) or (_ENDED if step_end else _silent())
    if joined:
        hint += "; run without the missing ones with --min-nodes"
    return LaunchError.of("agents-missing", what, where=missing[0], hint=hint)
