"""Probes of the format as the agents' checks, numbers and patterns resolved."""

from collections.abc import Callable, Mapping
from typing import Any

from protocol.messages import LogPattern
from protocol.messages import Probe as AgentProbe
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_int, as_seconds
from sflow_ctl.spec import schema

_LOCAL = frozenset(("127.0.0.1", "::1", "localhost", "0.0.0.0", "::"))


def plan_probes(
    task: schema.Task,
    evaluate: Callable[[Any], Any],
    addresses: frozenset[str],
    replicas_of: Mapping[str, tuple[str, ...]],
) -> tuple[AgentProbe, ...]:
    """The checks of one concrete task. `addresses` are those of its nodes. Raises: UnplannableError,
    NumberError.
    """
    if task.probes is None:
        return ()
    probes = []
    for kind in ("readiness", "failure"):
        probe: schema.Probe | None = getattr(task.probes, kind)
        if probe is not None:
            probes.append(_plan_probe(task, kind, probe, evaluate, addresses, replicas_of))
    return tuple(probes)


def _plan_probe(
    task: schema.Task,
    kind: str,
    probe: schema.Probe,
    evaluate: Callable[[Any], Any],
    addresses: frozenset[str],
    replicas_of: Mapping[str, tuple[str, ...]],
) -> AgentProbe:
    threshold = probe.success_threshold if kind == "readiness" else probe.failure_threshold
    common: dict[str, Any] = {
        "kind": kind,
        "delay_s": as_seconds(evaluate(probe.delay)),
        "interval_s": as_seconds(evaluate(probe.interval)),
        "timeout_s": as_seconds(evaluate(probe.timeout)),
        "threshold": as_int(evaluate(threshold), 1),
    }
    path = ("probes", kind)
    if probe.tcp_port is not None:
        host = evaluate(probe.tcp_port.host)
        port = as_int(evaluate(probe.tcp_port.port), 1)
        if port > 65535:
            raise UnplannableError(
                "wrong-value",
                f'task "{task.name}": port {port} is above 65535',
                path=(*path, "tcp_port", "port"),
            )
        is_elsewhere = host is not None and host not in _LOCAL and host not in addresses
        return AgentProbe(tcp_port=port, tcp_host=str(host) if is_elsewhere else None, **common)
    if probe.log_watch is not None:
        return _log_watch(task, probe.log_watch, evaluate, replicas_of, common, path)
    what = f'task "{task.name}": http probes are not supported yet'
    raise UnplannableError("probe-not-supported", what, "use tcp_port or log_watch", path)


def _log_watch(
    task: schema.Task,
    watch: schema.LogWatch,
    evaluate: Callable[[Any], Any],
    replicas_of: Mapping[str, tuple[str, ...]],
    common: dict[str, Any],
    path: tuple[str, ...],
) -> AgentProbe:
    import re

    text = str(evaluate(watch.match_pattern if watch.match_pattern is not None else watch.regex_pattern))
    pattern, is_regex = text, False
    for prefix in ("re:", "regex:"):
        if text.startswith(prefix):
            pattern, is_regex = text[len(prefix) :], True
            break
    if not pattern:
        raise UnplannableError(
            "empty-pattern", f'task "{task.name}": the pattern is empty', path=(*path, "log_watch")
        )
    if is_regex:
        try:
            re.compile(pattern)
        except re.error as error:
            what = f'task "{task.name}": "{pattern}" is no regular expression: {error}'
            raise UnplannableError("wrong-pattern", what, path=(*path, "log_watch")) from error
    log = LogPattern(pattern=pattern, is_regex=is_regex, count=as_int(evaluate(watch.match_count), 1))
    return AgentProbe(log=log, log_task=_logger(task, watch.logger, replicas_of, path), **common)


def _logger(
    task: schema.Task, logger: str | None, replicas_of: Mapping[str, tuple[str, ...]], path: tuple[str, ...]
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
