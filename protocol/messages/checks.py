"""Probes and the checks they are made of: ports, URLs, log lines, programs.

Values only. The planner makes them from the file, the agent's `probes` package runs them, and its `core.probes`
counts their results.
"""

from typing import Literal

import msgspec

from protocol.ids import ProbeKey, ProbeKind
from protocol.text.process_labels import Labels

Owner = Literal["task", "run", "any"]
"""Which process must listen on a port of this node for a check to hold: one of the task, one of the run, or any."""
OnNode = Literal["first", "each"]
"""Which nodes of a task must report a probe: its first one, or each of them."""
Method = Literal["GET", "POST"]


class LogPattern(msgspec.Struct, frozen=True, kw_only=True):
    """Text to look for in a log: a literal, or a Python regular expression searched in each line."""

    pattern: str
    is_regex: bool = False
    count: int = 1
    """Matches needed, at least 1. A literal or expression may match several times in a line."""
    labels: Labels = "none"
    """Who has put process numbers before the lines of the log: they are not searched."""


class TcpCheck(msgspec.Struct, frozen=True, kw_only=True, tag="tcp", tag_field="type"):
    """A TCP port accepts connections."""

    port: int
    host: str | None = None
    """Where to connect; None watches this node's listening sockets."""
    owner: Owner = "task"


class LogCheck(msgspec.Struct, frozen=True, kw_only=True, tag="log", tag_field="type"):
    """A log has a pattern the required number of times."""

    pattern: LogPattern
    task: str | None = None
    """The concrete task whose log is watched, when it is not the task's own."""


class HttpCheck(msgspec.Struct, frozen=True, kw_only=True, tag="http", tag_field="type"):
    """A request, and the conditions on its answer after redirects. All given conditions must hold."""

    method: Method
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    status: tuple[int, ...] = ()
    """Expected ones; empty is 200 to 399. An expected redirect is not followed."""
    header: tuple[tuple[str, str], ...] = ()
    """(name, text): the answer has a header of this name with the text in its value."""
    body_contains: str | None = None
    json: str | None = None
    """A `protocol.text.json_expression` over the answer's body that must be true."""
    verify: bool = True
    """Whether the certificate of an https server must be valid."""
    ca_file: str | None = None
    """A file on the node with the authorities to trust instead of the system's."""
    owner: Owner = "task"
    """Used if the URL's host is this node."""


class ExecCheck(msgspec.Struct, frozen=True, kw_only=True, tag="exec", tag_field="type"):
    """A program exits with status 0. It is started beside the task, with the task's environment."""

    argv: tuple[str, ...]


Check = TcpCheck | LogCheck | HttpCheck | ExecCheck


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Checks that an agent runs beside a rank, and how their results are combined."""

    kind: ProbeKind
    checks: tuple[Check, ...]
    """At least one."""
    needs_all: bool = True
    """Whether all checks must hold at the same time, or any one of them."""
    on_node: OnNode = "first"
    delay_s: float = 0.0
    interval_s: float = 5.0
    timeout_s: float = 60.0
    """Limit of a single check."""
    threshold: int = 1
    """Consecutive positive results needed of each check."""
    part: int = 0
    """Its position in the list of the file; readiness is reported for each."""
    also: "tuple[Probe, ...]" = ()
    """Further probes of the same kind, each with its own times. A task is ready when each has been true once, and fails when any
    is."""

    @property
    def parts(self) -> "tuple[Probe, ...]":
        """Return the probe itself and the further ones."""
        return (self, *self.also)

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """Return the checks of all parts, in the order of their keys."""
        return tuple(check for part in self.parts for check in part.checks)

    def keys(self) -> tuple[ProbeKey, ...]:
        """Return the keys of the checks of all parts, in their order."""
        return tuple(ProbeKey(self.kind, index) for index in range(len(self.all_checks)))
