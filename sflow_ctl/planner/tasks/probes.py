"""Turns the file's probes into the agents' probes, with numbers, hosts and patterns resolved.

HTTP requests are in `http_probes`. Called by the planner for each concrete task.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from protocol.ids import ProbeKey, ProbeKind
from protocol.messages.checks import Check, ExecCheck, LogCheck, LogPattern, Method, TcpCheck
from protocol.messages.checks import Probe as AgentProbe
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.plan.results import DeferredPort
from sflow_ctl.planner.compatibility import Compatibility
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_int, as_seconds, at
from sflow_ctl.planner.tasks.scripts import Scripts

if TYPE_CHECKING:
    from sflow_ctl.planner.launch.plugins import PluginRendering

_Path = tuple[str | int, ...]
DEFAULT_DEADLINE_S = 1200.0
"""The time in which a service must be ready that gives none."""
CHECK_LIMIT_S = 30.0
"""The limit of one check that gives none; `OWN_CHECK_LIMIT_S` of a probe that has fields of ours."""
OWN_CHECK_LIMIT_S = 60.0
_ANY_ADDRESS = (None, "0.0.0.0", "::")
"""Hosts for which a socket on any address of the task's node is accepted."""


class DeferredProbes:
    """Evaluates the values of a task's probes, and keeps the expressions that must wait for its start."""

    def __init__(
        self,
        scripts: Scripts,
        task: schema.Task,
        replica: str,
        names: Mapping[str, Any],
        plugins: "Callable[[], PluginRendering]",
    ) -> None:
        self._scripts, self._task, self._replica, self._names = scripts, task, replica, names
        self.plugins = plugins
        self.deferred: list[DeferredExpression] = []
        """Expressions whose placeholders are in the evaluated values."""
        self.tcp_ports: list[DeferredPort] = []
        """Ports that are such expressions."""

    def __call__(self, field: Any) -> Any:
        """Return the value, with placeholders for deferred expressions.

        Raises: UnplannableError, ExpressionError.
        """
        if not isinstance(field, str | list):
            return field
        value, deferred = self._scripts.value(self._task, self._replica, field, ("probes",), self._names)
        self.deferred += deferred
        return value

    def sample(self, text: str) -> str:
        """Return a text with placeholders as it may be at the start. Raises: ExpressionError."""
        return self._scripts.with_stand_ins(self._replica, text, self.deferred, self._names)


class _Scope(Struct, frozen=True):
    """The facts that the checks of one concrete task are planned with."""

    task: schema.Task
    evaluate: DeferredProbes
    replicas_of: Mapping[str, Sequence[str]]
    rules: Compatibility


def plan_probes(
    task: schema.Task,
    evaluate: DeferredProbes,
    replicas_of: Mapping[str, Sequence[str]],
    rules: Compatibility,
) -> tuple[AgentProbe, ...]:
    """Return the probes of one concrete task.

    Raises: UnplannableError, NumberError.
    """
    if task.probes is None:
        return ()
    scope = _Scope(task, evaluate, replicas_of, rules)
    probes = []
    kinds: tuple[ProbeKind, ...] = ("readiness", "failure")
    for kind in kinds:
        parts: list[AgentProbe] = []
        for path, given in listed_probes(task, kind):
            first = sum(len(part.checks) for part in parts)
            planned = _plan_probe(scope, kind, given, path, first)
            parts.append(msgspec.structs.replace(planned, part=len(parts)))
        if parts:
            probes.append(msgspec.structs.replace(parts[0], also=tuple(parts[1:])))
    return tuple(probes)


def listed_probes(task: schema.Task, kind: ProbeKind) -> list[tuple[_Path, schema.Probe]]:
    """Return the probes of a kind with their paths in the file."""
    path: _Path = ("probes", kind)
    given = None if task.probes is None else getattr(task.probes, kind)
    if isinstance(given, list):
        return [((*path, index), probe) for index, probe in enumerate(given)]
    return [] if given is None else [(path, given)]


def _keeps_our_timeout(probe: schema.Probe, rules: Compatibility) -> bool:
    """Return whether `timeout` limits one check: in probes that sflow cannot read, and under the rules of 0.2."""
    ours = (probe.deadline, probe.exec, probe.all, probe.any)
    return not rules.timeout_is_deadline or any(one is not None for one in ours)


def readiness_deadlines_s(
    task: schema.Task, evaluate: Callable[[Any], Any], rules: Compatibility
) -> tuple[float | None, ...]:
    """Seconds within which each readiness probe must have been true; None without limit. Raises: NumberError."""
    limits: list[float | None] = []
    for path, probe in listed_probes(task, "readiness"):
        written, field = probe.deadline, "deadline"
        if written is None and not _keeps_our_timeout(probe, rules):
            written, field = probe.timeout, "timeout"
        if written is None:
            is_limited = rules.timeout_is_deadline and task.is_service
            limits.append(DEFAULT_DEADLINE_S if is_limited else None)
        else:
            limits.append(at((*path, field), as_seconds, evaluate(written)) or None)
    return tuple(limits)


def _plan_probe(scope: _Scope, kind: ProbeKind, probe: schema.Probe, path: _Path, first: int) -> AgentProbe:
    evaluate = scope.evaluate
    is_readiness = kind == "readiness"
    threshold = probe.success_threshold if is_readiness else probe.failure_threshold
    threshold_field = "success_threshold" if is_readiness else "failure_threshold"
    conditions = _conditions(probe, path)
    on_each_node = any(one.tcp_port is not None and one.tcp_port.on_node == "each" for _, one in conditions)
    return AgentProbe(
        kind=kind,
        checks=tuple(
            _check(scope, condition, where, ProbeKey(kind, first + index))
            for index, (where, condition) in enumerate(conditions)
        ),
        needs_all=probe.any is None,
        on_node="each" if on_each_node else "first",
        delay_s=at((*path, "delay"), as_seconds, evaluate(probe.delay)),
        interval_s=at((*path, "interval"), as_seconds, evaluate(probe.interval)),
        timeout_s=_check_limit_s(probe, kind, path, scope),
        threshold=at((*path, threshold_field), as_int, evaluate(threshold), 1),
    )


def _check_limit_s(probe: schema.Probe, kind: ProbeKind, path: _Path, scope: _Scope) -> float:
    """Return the seconds that one check of a probe may take. Raises: NumberError."""
    if probe.each_check_timeout is not None:
        written = scope.evaluate(probe.each_check_timeout)
        return max(1.0, at((*path, "each_check_timeout"), as_seconds, written))
    is_own = _keeps_our_timeout(probe, scope.rules)
    if probe.timeout is not None and (is_own or kind == "failure"):
        return at((*path, "timeout"), as_seconds, scope.evaluate(probe.timeout))
    return OWN_CHECK_LIMIT_S if is_own else CHECK_LIMIT_S


def _conditions(probe: schema.Probe, path: _Path) -> list[tuple[_Path, schema.Condition]]:
    """Return the conditions of a probe with their paths in the file: those of its list, or its own."""
    several: Literal["all", "any"] = "all" if probe.all is not None else "any"
    parts = probe.all if probe.all is not None else probe.any
    if parts is None:
        return [(path, probe)]
    return [((*path, several, index), part) for index, part in enumerate(parts)]


def _check(scope: _Scope, condition: schema.Condition, path: _Path, key: ProbeKey) -> Check:
    """Return the agent's check for a condition of the file."""
    if condition.tcp_port is not None:
        return _tcp_port(scope, condition.tcp_port, (*path, "tcp_port"), key)
    if condition.log_watch is not None:
        return _log_watch(scope, condition.log_watch, (*path, "log_watch"))
    if condition.http_get is not None:
        return _http(scope, "GET", condition.http_get, (*path, "http_get"))
    if condition.http_post is not None:
        return _http(scope, "POST", condition.http_post, (*path, "http_post"))
    if condition.plugin is not None:
        return _plugin(scope, condition.plugin, (*path, "plugin"))
    assert condition.exec is not None
    return _exec(scope, condition.exec, (*path, "exec"))


def _http(scope: _Scope, method: Method, http: schema.Http, path: _Path) -> Check:
    from sflow_ctl.planner.tasks.http_probes import plan_http  # few probes ask over HTTP

    return plan_http(method, http, scope.evaluate, scope.evaluate.sample, path)


def _tcp_port(scope: _Scope, tcp: schema.TcpPort, path: _Path, key: ProbeKey) -> TcpCheck:
    value = scope.evaluate(tcp.port)
    if isinstance(value, str) and EXPRESSION_START in value:
        scope.evaluate.tcp_ports.append(DeferredPort(key=key, text=value))
        sample = scope.evaluate.sample(value)
        port = 0 if not sample else min(at((*path, "port"), as_int, sample, 1), 0)
    else:
        port = at((*path, "port"), as_int, value, 1)
    if port > 65535:
        what = f'task "{scope.task.name}": port {port} is above 65535'
        raise UnplannableError("wrong-value", what, path=(*path, "port"))
    host = scope.evaluate(tcp.host) if tcp.on_node == "first" else None
    if isinstance(host, str) and host.startswith("[") and host.endswith("]"):
        host = host[1:-1]  # as an endpoint has an IPv6 address
    return TcpCheck(port=port, host=None if host in _ANY_ADDRESS else str(host), owner=tcp.owner)


def _plugin(scope: _Scope, check: schema.PluginCheck, path: _Path) -> ExecCheck:
    values = scope.evaluate(list(check.options.values()))
    return ExecCheck(
        argv=scope.evaluate.plugins().probe(check.name, dict(zip(check.options, values, strict=True)), path)
    )


def _exec(scope: _Scope, exec_: schema.Exec, path: _Path) -> ExecCheck:
    command = scope.evaluate(exec_.command)
    argv = tuple(map(str, command)) if isinstance(command, list) else ("bash", "-c", str(command))
    if not argv or not argv[-1 if isinstance(command, str) else 0]:
        what = f'task "{scope.task.name}": the command of its probe is empty'
        raise UnplannableError("empty-command", what, path=(*path, "command"))
    return ExecCheck(argv=argv)


def _log_watch(scope: _Scope, watch: schema.LogWatch, path: _Path) -> LogCheck:
    import re

    task, evaluate = scope.task, scope.evaluate

    text = str(evaluate(watch.match_pattern if watch.match_pattern is not None else watch.regex_pattern))
    pattern, is_regex = text, False
    for prefix in ("re:", "regex:"):
        if text.startswith(prefix):
            pattern, is_regex = text[len(prefix) :], True
            break
    if not pattern:
        raise UnplannableError("empty-pattern", f'task "{task.name}": the pattern is empty', path=path)
    if is_regex:
        try:
            re.compile(pattern)
        except re.error as error:
            what = f'task "{task.name}": "{pattern}" is not a regular expression: {error}'
            raise UnplannableError("wrong-pattern", what, path=path) from error
    count = at((*path, "match_count"), as_int, evaluate(watch.match_count), 1)
    log = LogPattern(pattern=pattern, is_regex=is_regex, count=count)
    return LogCheck(pattern=log, task=_logger(task, watch.logger, scope.replicas_of, path))


def _logger(
    task: schema.Task,
    logger: str | None,
    replicas_of: Mapping[str, Sequence[str]],
    path: _Path,
) -> str | None:
    if logger is None or (logger == task.name and len(replicas_of[logger]) == 1):
        return None
    base, bracket, rest = logger.partition("[")
    if base not in replicas_of:
        return logger  # the name of a copy, which a cell of a sweep has put there
    names = replicas_of[base]
    if bracket:
        index = at((*path, "logger"), as_int, rest.rstrip("]"), 0)
        if index >= len(names):
            what = f'task "{task.name}": "{base}" has {len(names)} replicas; {logger} is not one of them'
            raise UnplannableError("unknown-logger", what, path=path)
        return names[index]
    if len(names) > 1:
        what = f'task "{task.name}": "{logger}" is a replicated task; a probe watches one of its logs'
        raise UnplannableError("unknown-logger", what, f"write {logger}[0]", path)
    return names[0]
