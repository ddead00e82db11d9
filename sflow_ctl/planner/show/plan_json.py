"""A plan as JSON for tools: `sflow-ctl plan --json`."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import msgspec

from protocol.messages.checks import Check, ExecCheck, HttpCheck, LogCheck, Probe, TcpCheck
from sflow_ctl.plan.graph import dependency_names
from sflow_ctl.plan.model import Plan, PlannedTask


def to_json(plan: Plan) -> dict[str, Any]:
    """Return plain data: workflow, variables, artifacts, tasks and sweeps, with nodes by name.

    `plan.json` has the whole plan.
    """
    members = plan.members()
    return {
        "workflow": plan.workflow,
        "timeout_s": plan.timeout_s,
        "success": msgspec.to_builtins(plan.success),
        "variables": dict(plan.variables),
        "artifacts": dict(plan.artifacts),
        "nodes": [
            {"name": n.name, "backend": n.backend, "gpus": n.gpus, "spare": n.is_spare} for n in plan.nodes
        ],
        "tasks": [_task(plan, task, members) for task in plan.tasks],
        "sweeps": msgspec.to_builtins(plan.sweeps),
        "monitors": msgspec.to_builtins(plan.monitors),
        "notes": msgspec.to_builtins(plan.notes),
        "warnings": msgspec.to_builtins(plan.warnings),
    }


def _task(plan: Plan, task: PlannedTask, members: Mapping[str, Sequence[PlannedTask]]) -> dict[str, Any]:
    placement = task.placement
    return {
        "name": task.name,
        "base": task.base,
        "backend": task.backend,
        "operator": task.operator,
        "nodes": [plan.nodes[index].name for index in placement.nodes],
        "placed_when_ready": placement.is_flexible,
        "node_count": placement.node_count if placement.is_flexible else len(placement.nodes),
        "gpus_per_node": placement.gpus_per_node,
        "cuda_visible_devices": ",".join(map(str, placement.gpus)) if placement.gpus else None,
        "depends_on": list(dependency_names(task, members)),
        "conditions": [{"task": d.task, "until": d.until} for d in task.depends_on if d.until != "available"],
        "env": task.environment,
        "script": task.script,
        "probes": [_probe(probe, task.deadlines_s) for probe in task.probes],
        "retries": msgspec.to_builtins(task.retries),
        "timeout_s": task.timeout_s,
        "deadline_s": task.deadline_s,
        "kind": "service" if task.is_service else "task",
        "main": task.is_main,
        "finally": task.finally_when,
        "on_failure": task.on_failure,
        "on_node_lost": task.on_node_lost,
        "stop": msgspec.to_builtins(task.stopping),
        "hang": msgspec.to_builtins(task.hang),
        "restart": msgspec.to_builtins(task.restart),
        "success": msgspec.to_builtins(task.success),
        "sweep": dict(task.sweep),
        "cell": None if task.cell is None else msgspec.to_builtins(task.cell),
        "labels": dict(task.labels),
        "outputs": msgspec.to_builtins(task.outputs),
        "argv": list(task.argv),
        "container": msgspec.to_builtins(task.container),
        "environment": None if task.bootstrap is None else task.bootstrap.name,
    }


def _probe(probe: Probe, deadlines_s: Sequence[float | None]) -> dict[str, Any]:
    """Return a probe in the shape of the format: one check beside its settings, or several in `parts`."""
    data = msgspec.to_builtins(probe)
    del data["checks"], data["part"]
    data["deadline_s"] = deadlines_s[probe.part] if probe.kind == "readiness" and deadlines_s else None
    data["also"] = [_probe(one, deadlines_s) for one in probe.also]
    checks = [_check(check) for check in probe.checks]
    return {**data, **_NO_CHECK, "parts": checks} if len(checks) > 1 else {**data, **checks[0], "parts": []}


_NO_CHECK: dict[str, Any] = {
    "tcp_port": None,
    "tcp_host": None,
    "log": None,
    "log_task": None,
    "http": None,
    "owner": "task",
    "exec": [],
}


def _check(check: Check) -> dict[str, Any]:
    data = {name: value for name, value in msgspec.to_builtins(check).items() if name != "type"}
    fields: dict[str, Any]
    match check:
        case TcpCheck():
            fields = {"tcp_port": check.port, "tcp_host": check.host, "owner": check.owner}
        case LogCheck():
            fields = {"log": data["pattern"], "log_task": check.task}
        case HttpCheck():
            fields = {"http": {name: data[name] for name in data if name != "owner"}, "owner": check.owner}
        case ExecCheck():
            fields = {"exec": data["argv"]}
        case _:
            assert_never(check)
    return {**_NO_CHECK, **fields}
