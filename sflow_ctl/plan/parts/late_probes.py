"""Fills deferred values into the probes of a task. Pure; a part of `deferred`."""

from collections.abc import Callable
from typing import Any

import msgspec

from protocol.messages.checks import Probe
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedTask


def filled_probes(task: PlannedTask, fill: Callable[[str], str]) -> tuple[Probe, ...]:
    """Return the probes of a task with values in place of its expressions. Raises: ExpressionError for a wrong port."""
    data = [_filled(msgspec.to_builtins(probe), fill) for probe in task.probes]
    for deferred in task.deferred_tcp_ports:
        probe = next(probe for probe in data if probe["kind"] == deferred.key.kind)
        checks = [check for part in (probe, *probe["also"]) for check in part["checks"]]
        checks[deferred.key.number]["port"] = _port(fill(deferred.text))
    return msgspec.convert(data, tuple[Probe, ...])


def _port(text: str) -> int:
    if not (text.strip().isdecimal() and 0 < int(text) < 65536):
        raise ExpressionError(f"the port of a probe is {text!r}, which is not a port number")
    return int(text)


def _filled(data: Any, fill: Callable[[str], str]) -> Any:
    if isinstance(data, str):
        return fill(data)
    if isinstance(data, dict):
        return {key: _filled(value, fill) for key, value in data.items()}
    return [_filled(value, fill) for value in data] if isinstance(data, list | tuple) else data
