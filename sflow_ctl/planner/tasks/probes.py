"""Probes of the format as the agents' checks, numbers and patterns resolved."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from protocol.messages.checks import Condition, LogPattern
from protocol.messages.checks import Probe as AgentProbe
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import MARK
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_int, as_seconds
from sflow_ctl.planner.tasks.http_probes import plan_http
from sflow_ctl.planner.tasks.scripts import Scripts

_NOT_IN_KEYS = ("probes", "tcp_port", "all", "any")
"""What a path in a file has and the key of a condition has not: `probes/readiness/all/1/tcp_port` is `readiness/1`."""
_LOCAL = frozenset(("127.0.0.1", "::1", "localhost", "0.0.0.0", "::"))


class DeferredProbes:
    """Evaluates the values of a task's probes, and keeps what only its start will tell."""

    def __init__(self, scripts: Scripts, task: schema.Task, replica: str, names: Mapping[str, Any]) -> None:
        self._scripts, self._task, self._replica, self._names = scripts, task, replica, names
        self.late: list[DeferredExpression] = []
        """OwnerScope marks are still in what was evaluated."""
        self.tcp_ports: dict[str, str] = {}
        """See `PlannedTask.late_tcp_ports`."""

    def __call__(self, field: Any) -> Any:
        """The value, as a text with marks if it is late. Raises: UnplannableError, ExpressionError."""
        if not isinstance(field, str | list):
            return field
        value, late = self._scripts.value(self._task, self._replica, field, ("probes",), self._names)
        self.late += late
        return value

    def sample(self, text: str) -> str:
        """A text with marks as it may be at the start. Raises: ExpressionError."""
        return self._scripts.with_stand_ins(self._replica, text, self.late, self._names)


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the conditions of one concrete task are planned with."""

    task: schema.Task
    evaluate: DeferredProbes
    addresses: frozenset[str]
    replicas_of: Mapping[str, tuple[str, ...]]


def plan_probes(
    task: schema.Task,
    evaluate: DeferredProbes,
    addresses: frozenset[str],
    replicas_of: Mapping[str, tuple[str, ...]],
) -> tuple[AgentProbe, ...]:
    """The checks of one concrete task. `addresses` are those of its nodes. Raises: UnplannableError,
    NumberError.
    """
    if task.probes is None:
        return ()
    scope = _Scope(task, evaluate, addresses, replicas_of)
    probes = []
    for kind in ("readiness", "failure"):
        probe: schema.Probe | None = getattr(task.probes, kind)
        if probe is not None:
            probes.append(_plan_probe(scope, kind, probe))
    return tuple(probes)


def readiness_deadline_s(task: schema.Task, evaluate: Callable[[Any], Any]) -> float | None:
    """Seconds within which an attempt must be ready, or None. Raises: NumberError."""
    readiness = task.probes.readiness if task.probes is not None else None
    if readiness is None or readiness.deadline is None:
        return None
    return as_seconds(evaluate(readiness.deadline))


def _plan_probe(scope: _Scope, kind: str, probe: schema.Probe) -> AgentProbe:
    evaluate = scope.evaluate
    threshold = probe.success_threshold if kind == "readiness" else probe.failure_threshold
    common: dict[str, Any] = {
        "kind": kind,
        "on_node": "each" if any(_is_of_each_node(part) for part in _parts(probe)) else "first",
        "delay_s": as_seconds(evaluate(probe.delay)),
        "interval_s": as_seconds(evaluate(probe.interval)),
        "timeout_s": as_seconds(evaluate(probe.timeout)),
        "threshold": as_int(evaluate(threshold), 1),
    }
    path = ("probes", kind)
    for several, needs_all in (("all", True), ("any", False)):
        parts: list[schema.Condition] | None = getattr(probe, several)
        if parts is not None:
            planned = tuple(
                Condition(**_condition(scope, part, (*path, several, index)))
                for index, part in enumerate(parts)
            )
            return AgentProbe(parts=planned, needs_all=needs_all, **common)
    return AgentProbe(**_condition(scope, probe, path), **common)


def _parts(probe: schema.Probe) -> list[schema.Condition]:
    return [probe, *(probe.all or ()), *(probe.any or ())]


def _is_of_each_node(condition: schema.Condition) -> bool:
    return condition.tcp_port is not None and condition.tcp_port.on_node == "each"


def _condition(scope: _Scope, condition: schema.Condition, path: tuple[str | int, ...]) -> dict[str, Any]:
    """The fields of the agent's condition."""
    if condition.tcp_port is not None:
        return _tcp_port(scope, condition.tcp_port, (*path, "tcp_port"))
    if condition.log_watch is not None:
        return _log_watch(scope, condition.log_watch, (*path, "log_watch"))
    if condition.http_get is not None:
        return _http(scope, "GET", condition.http_get, (*path, "http_get"))
    if condition.http_post is not None:
        return _http(scope, "POST", condition.http_post, (*path, "http_post"))
    assert condition.exec is not None
    return {"exec": _exec(scope, condition.exec, (*path, "exec"))}


def _http(scope: _Scope, method: str, http: schema.Http, path: tuple[str | int, ...]) -> dict[str, Any]:
    return {
        "http": plan_http(method, http, scope.evaluate, scope.evaluate.sample, path),
        "owner": http.owner,
    }


def _tcp_port(scope: _Scope, tcp: schema.TcpPort, path: tuple[str | int, ...]) -> dict[str, Any]:
    value = scope.evaluate(tcp.port)
    if isinstance(value, str) and MARK in value:
        scope.evaluate.tcp_ports["/".join(str(key) for key in path if key not in _NOT_IN_KEYS)] = value
        sample = scope.evaluate.sample(value)
        port = 0 if not sample else min(as_int(sample, 1), 0)
    else:
        port = as_int(value, 1)
    if port > 65535:
        what = f'task "{scope.task.name}": port {port} is above 65535'
        raise UnplannableError("wrong-value", what, path=(*path, "port"))
    host = scope.evaluate(tcp.host) if tcp.on_node == "first" else None
    is_elsewhere = host is not None and host not in _LOCAL and host not in scope.addresses
    return {"tcp_port": port, "tcp_host": str(host) if is_elsewhere else None, "owner": tcp.owner}


def _exec(scope: _Scope, exec_: schema.Exec, path: tuple[str | int, ...]) -> tuple[str, ...]:
    command = scope.evaluate(exec_.command)
    argv = tuple(map(str, command)) if isinstance(command, list) else ("bash", "-c", str(command))
    if not argv or not argv[-1 if isinstance(command, str) else 0]:
        what = f'task "{scope.task.name}": the command of its probe is empty'
        raise UnplannableError("empty-command", what, path=(*path, "command"))
    return argv


def _log_watch(scope: _Scope, watch: schema.LogWatch, path: tuple[str | int, ...]) -> dict[str, Any]:
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
            what = f'task "{task.name}": "{pattern}" is no regular expression: {error}'
            raise UnplannableError("wrong-pattern", what, path=path) from error
    log = LogPattern(pattern=pattern, is_regex=is_regex, count=as_int(evaluate(watch.match_count), 1))
    return {"log": log, "log_task": _logger(task, watch.logger, scope.replicas_of, path)}


def _logger(
    task: schema.Task,
    logger: str | None,
    replicas_of: Mapping[str, tuple[str, ...]],
    path: tuple[str | int, ...],
) -> str | None:
    if logger is None or (logger == task.name and len(replicas_of[logger]) == 1):
        return None
    base, bracket, rest = logger.partition("[")
    names = replicas_of[base]
    if bracket:
        index = as_int(rest.rstrip("]"), 0)
        if index >= len(names):
            what = f'task "{task.name}": "{base}" has {len(names)} replicas, {logger} is none of them'
            raise UnplannableError("unknown-logger", what, path=path)
        return names[index]
    if len(names) > 1:
        what = f'task "{task.name}": "{logger}" is a replicated task; a probe watches one of its logs'
        raise UnplannableError("unknown-logger", what, f"write {logger}[0]", path)
    return names[0]
