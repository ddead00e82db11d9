"""Checks that decide when a task is ready and when it has failed."""

from typing import Any, Literal

from sflow_ctl.format.schema.values import Flag, IntExpr, Part, Time


class TcpPort(Part, frozen=True, kw_only=True):
    """True while a TCP port accepts connections."""

    port: IntExpr
    """Port number, or an expression such as `${{ port.http }}`."""
    host: str | None = None
    """Host name or address. Default: the task's own node."""
    on_node: Literal["first", "each"] = "first"
    """`first`: check the task's first node; `each`: every node of the task must pass, for the whole probe."""
    owner: Literal["task", "run", "any"] = "task"
    """Process that may listen on a port of the task's node: of the task, of any task of this run, or any process."""


class Http(Part, frozen=True, kw_only=True):
    """True while a URL answers with a status from 200 to 399, after redirects, and fulfils all other conditions given here."""

    url: str
    """URL to request, `http://` or `https://`."""
    headers: dict[str, str] = {}
    """Headers to send."""
    body: str | None = None
    """Body to send, for `http_post`."""
    status: list[IntExpr] = []
    """Accepted statuses, for example `[200, 204]`. Default: 200 to 399."""
    header: dict[str, str] = {}
    """Headers that the answer must have, each containing the given text."""
    body_contains: str | None = None
    """Text that the answer's body must contain, within its first 1 MiB."""
    json: str | None = None
    """Expression over the JSON answer that must be true, for example `len(instances) >= 6 and status == 'ok'`."""
    verify: Flag = True
    """Verify the server's certificate."""
    ca_file: str | None = None
    """File with the certificate authorities to trust. Default: the system's."""
    owner: Literal["task", "run", "any"] = "run"
    """Process that may answer at the task's own node: of the task, of any task of this run, or any process."""


class LogWatch(Part, frozen=True, kw_only=True):
    """True once a pattern has been seen often enough in a log."""

    regex_pattern: str | None = None
    """The same as `match_pattern`: a regular expression only if it begins with `re:`."""
    match_pattern: str | None = None
    """Text to find in a line, or a Python regular expression after `re:`, for example `"re:ready in \\\\d+ s"`."""
    logger: str | None = None
    """Task or replica (`NAME[i]`) whose log is searched. Default: the task itself."""
    match_count: IntExpr = 1
    """Number of matches needed."""


class Exec(Part, frozen=True, kw_only=True):
    """True while a command exits with status 0. It runs on the task's node, with the task's environment and directory."""

    command: str | list[str]
    """Text is a line for bash, a list is a program with its arguments."""


class PluginCheck(Part, frozen=True, kw_only=True):
    """True while the command that a plug-in makes exits with status 0. It runs as that of `exec` does."""

    name: str
    """Name of the plug-in, as its package registers it."""
    options: dict[str, Any] = {}
    """Values for the plug-in, which says what it takes."""


class Condition(Part, frozen=True, kw_only=True):
    """Exactly one check."""

    tcp_port: TcpPort | None = None
    """Check that a TCP port accepts connections."""
    http_get: Http | None = None
    """Check the answer to an HTTP GET request."""
    http_post: Http | None = None
    """Check the answer to an HTTP POST request."""
    log_watch: LogWatch | None = None
    """Check that a pattern appeared in a log."""
    exec: Exec | None = None
    """Check that a command exits with status 0."""
    plugin: PluginCheck | None = None
    """Check what a plug-in of an installed package checks."""


class Probe(Condition, frozen=True, kw_only=True):
    """Exactly one check, or several in `all` or `any`, with their timing."""

    all: list[Condition] | None = None
    """Checks that must all be true."""
    any: list[Condition] | None = None
    """Checks of which one must be true."""
    delay: Time = 0
    """Time between the start of an attempt and the first check: seconds or a duration."""
    timeout: Time | None = None
    """Of readiness: time within which an attempt must become ready, else it ends as a timeout; 0 for no limit. Default: 20
    minutes for services. Of failure, and beside `deadline`, `exec`, `all` or `any`: time limit of one check."""
    each_check_timeout: Time | None = None
    """Time limit of one check: seconds or a duration. Default: 30 seconds."""
    interval: Time = 5
    """Longest pause between two checks; while a task starts it is checked more often: seconds or a duration."""
    deadline: Time | None = None
    """Time within which an attempt must become ready, else it ends as a timeout, for example `20m`; 0 for no limit. Only for
    readiness. Default: `timeout`."""
    success_threshold: IntExpr = 1
    """Checks in a row that must pass for the task to be ready."""
    failure_threshold: IntExpr = 3
    """Checks in a row that must be true for a failure probe to fail the task."""


class Probes(Part, frozen=True, kw_only=True):
    """What makes a task ready, and what makes it fail."""

    readiness: Probe | list[Probe] | None = None
    """The task is ready when this probe is true; of a list, when each has been true. It makes the task a service unless
    `kind: task` is given."""
    failure: Probe | list[Probe] | None = None
    """The task fails when this probe's check is true; of a list, any probe's."""

    def of(self, kind: str) -> tuple[Probe, ...]:
        """Return the probes of a kind, `readiness` or `failure`."""
        given: Probe | list[Probe] | None = getattr(self, kind)
        return () if given is None else (given,) if isinstance(given, Probe) else tuple(given)
