"""Describes the agent and its node after its hello. A source of the loop; `agent` makes it."""

import sys
import time
from collections.abc import Sequence

from protocol.messages.config import AgentConfig
from protocol.messages.facts import NodeDescribed, Notice
from sflow_agent.core.events import AgentEvent
from sflow_agent.link import ControllerLink

COMPLAIN_AFTER_S = 5.0
"""Seconds without an answer to any hello; a busy controller of a thousand agents needs less."""
DESCRIBE_AFTER_S = 0.2
"""Slow facts are collected after the first tasks have been started."""


class Introduction:
    """A source of the loop: describes the node once in a session, and complains on stderr without one."""

    def __init__(self, config: AgentConfig, link: ControllerLink) -> None:
        self._config = config
        self._link = link
        self._has_described = False
        self._describe_at: float | None = None
        self._complain_at: float | None = time.monotonic() + COMPLAIN_AFTER_S

    def on_new_session(self) -> None:
        """Describe the node soon, in the first session only."""
        if not self._has_described:
            self._has_described = True
            self._describe_at = time.monotonic() + DESCRIBE_AFTER_S

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        if self._describe_at is None or self._complain_at is None:
            return self._describe_at if self._complain_at is None else self._complain_at
        return min(self._describe_at, self._complain_at)

    def poll(self, now: float) -> Sequence[AgentEvent]:
        """Do what is due."""
        if self._describe_at is not None and self._describe_at <= now:
            self._describe_at = None
            self._describe()
        if self._complain_at is not None and self._complain_at <= now:
            self._complain_at = None
            if not self._link.is_welcome:
                tried = ", ".join(one.removeprefix("tcp://") for one in self._config.control_endpoints)
                at = f" at {tried}" if tried else ""
                name = self._config.node_name
                print_error(f"the agent on {name} gets no answer from the controller{at}")
        return ()

    def _describe(self) -> None:
        try:
            from sflow_agent.node.addresses import addresses  # a file: no descriptor may be left for it

            self._link.report(NodeDescribed(addresses=addresses(), clock_ns=time.time_ns()))
        except OSError as error:
            self._link.report(Notice(level="warning", text=f"its addresses cannot be read: {error}"))


def print_error(text: str) -> None:
    """Write to standard error, which the launcher keeps: agents have no log of their own."""
    sys.stderr.write(f"sflow-agent: {text}\n")
