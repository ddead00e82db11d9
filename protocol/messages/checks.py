"""What probes check: ports, URLs, log lines, commands."""

import msgspec


class LogPattern(msgspec.Struct, frozen=True, kw_only=True):
    """Text to look for in a log: a literal, or a Python regular expression searched in each line."""

    pattern: str
    is_regex: bool = False
    count: int = 1
    """Matches needed, at least 1. A literal or expression may match several times in a line."""


class HttpCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and what its answer must be like after redirects. All that is given must hold."""

    method: str
    """"GET" or "POST"."""
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    status: tuple[int, ...] = ()
    """Expected ones; empty is 200 to 399. A redirect that is expected is not followed."""
    header: tuple[tuple[str, str], ...] = ()
    """(name, text): the answer has a header of this name with the text in its value."""
    body_contains: str | None = None
    json: str | None = None
    """A `protocol.text.json_expression` over the answer's body that must be true."""
    verify: bool = True
    """Whether the certificate of an https server must be good."""
    ca_file: str | None = None
    """A file on the node with the authorities to trust instead of the system's."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """Something an agent can see. Exactly one of `tcp_port`, `log`, `http` and `exec` is set."""

    tcp_port: int | None = None
    tcp_host: str | None = None
    """Where to connect; None watches this node's listening sockets for one of the task's own."""
    log: LogPattern | None = None
    log_task: str | None = None
    """The concrete task whose log is watched, when it is not the task's own."""
    http: HttpCheck | None = None
    owner: str = "task"
    """OwnerScope process must listen on a port of this node, a URL's too: one of the "task", of the "run", or "any"."""
    exec: tuple[str, ...] = ()
    """A program that is started beside the task, with its environment: true when it exits with 0."""


class Probe(Condition, frozen=True, kw_only=True):
    """A condition an agent watches beside a rank, or several in `parts`."""

    kind: str
    """"readiness" or "failure"."""
    parts: tuple[Condition, ...] = ()
    needs_all: bool = True
    """Whether all parts must hold, or any one of them."""
    on_node: str = "first"
    """"first", or "each": every node of the task must say so."""
    delay_s: float = 0.0
    interval_s: float = 5.0
    timeout_s: float = 60.0
    """Limit of a single check."""
    threshold: int = 1
    """Consecutive true checks needed of each condition."""
