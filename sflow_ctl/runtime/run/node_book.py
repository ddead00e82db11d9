"""The controller's facts about joined nodes: for `nodes.json`, warnings at the start, and the place of logs.

The scheduler has its own record of each node; nothing here decides anything.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from protocol.messages.facts import Hello, NodeDescribed
from protocol.messages.node import Inventory
from sflow_ctl.core.events import NodeStandsStill
from sflow_ctl.report.resumed import AgentRestart

if TYPE_CHECKING:
    from sflow_ctl.doctor.at_start import StartChecks


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `nodes.json`."""

    node: int
    name: str
    agent_pid: int
    shares_run_directory: bool
    inventory: Inventory
    addresses: tuple[tuple[str, str], ...] = ()


class NodeBook:
    """The nodes of one run. `is_spooled`: the run directory is not expected to be shared."""

    def __init__(self, names: Sequence[str], is_spooled: bool) -> None:
        self._names = names
        self._is_spooled = is_spooled
        self._facts: dict[int, NodeFacts] = {}
        self.has_news = False
        """Something is known that `encoded` has not returned yet."""
        self._silent: dict[int, float] = {}
        self._first_hellos: dict[int, Hello] = {}
        self._welcomed_ns: dict[int, int] = {}
        self._start_checks: StartChecks | None = None
        self.is_taken_over = False
        self._restarts: dict[tuple[int, int], AgentRestart] = {}
        """By node and agent, which may say hello again."""

    def joined(self, hello: Hello) -> str:
        """Record a node whose agent has said hello; return a sentence about it."""
        self.has_news = True
        name = self._names[hello.node]
        self._facts[hello.node] = NodeFacts(
            node=hello.node,
            name=name,
            agent_pid=hello.pid,
            shares_run_directory=hello.shares_run_directory,
            inventory=hello.inventory,
        )
        self._first_hellos.setdefault(hello.node, hello)
        if hello.follows:
            restart = AgentRestart(node=name, ended=hello.follows, started_wall_ns=hello.agent_incarnation)
            self._restarts[hello.node, hello.agent_incarnation] = restart
        shared = "shared" if hello.shares_run_directory else "not shared, logs are streamed"
        way = f" from {hello.address or 'an unknown address'} by {hello.endpoint}" if hello.endpoint else ""
        return f"node {name}: agent {hello.pid} joined{way}, run directory {shared}"

    def agent_restarts(self) -> list[AgentRestart]:
        """Return the agents that took the place of others, oldest first."""
        return sorted(self._restarts.values(), key=lambda one: one.started_wall_ns)

    def report_silences(
        self, silent: Mapping[int, float], lost_after_s: float, warn: Callable[[str], None]
    ) -> None:
        """Warn of nodes that have become silent (seconds by node), and say which are heard of again."""
        for node, seconds in silent.items():
            if node not in self._silent:
                text = f"node {self._names[node]} has not been heard of for {seconds:.0f} s"
                warn(f"{text}; it is given up after {lost_after_s:g} s")
            self._silent[node] = seconds
        for node in [one for one in self._silent if one not in silent]:
            warn(f"node {self._names[node]} is heard of again, after {self._silent.pop(node):.0f} s")

    def standstill_text(self, event: NodeStandsStill, still_after_s: float) -> str:
        """Return the sentence about a node whose agent has begun to stand still, or moves again."""
        name = self._names[event.node]
        if event.is_over:
            return f"node {name}: its agent moves again, after {event.seconds:.0f} s"
        text = f"node {name}: its agent has stood still for {event.seconds:.0f} s in {event.doing}"
        return f"{text}; its tasks run on, and it is given up after {still_after_s:g} s"

    def welcomed(self, node: int) -> None:
        """Record that a node's agent has been answered."""
        self._welcomed_ns.setdefault(node, time.time_ns())

    def is_spooling(self, node: int) -> bool | None:
        """Return whether the node's logs are streamed to this machine; None before it has joined."""
        facts = self._facts.get(node)
        return None if facts is None else not facts.shares_run_directory

    def described(self, node: int, described: NodeDescribed, is_awaiting: bool) -> Iterable[str]:
        """Record a node's description; return warnings about all nodes once none of them `is_awaiting`.

        Descriptions arrive after the first tasks have been sent: tasks need not wait for these checks.
        """
        if node not in self._facts:
            return ()
        self.has_news = True
        self._facts[node] = msgspec.structs.replace(self._facts[node], addresses=described.addresses)
        if self.is_taken_over:
            return ()  # the controller that began the run has checked, and hellos to this one had to wait for it
        if self._start_checks is None:
            from sflow_ctl.doctor.at_start import StartChecks

            self._start_checks = StartChecks(
                self._names, self._first_hellos, self._welcomed_ns, self._is_spooled
            )
        return self._start_checks.described(node, described, time.time_ns(), is_awaiting)

    def encoded(self) -> bytes:
        """Return the content of `nodes.json`."""
        self.has_news = False
        return msgspec.json.encode([self._facts[node] for node in sorted(self._facts)]) + b"\n"
