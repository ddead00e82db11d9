"""Says for people what a task of a plan is: items, block, limits, conditions, probes, variables, script. A part of `text.py`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import assert_never

from protocol.messages.checks import Check, ExecCheck, HttpCheck, LogCheck, Probe, TcpCheck
from protocol.messages.rank_spec import HangPolicy, PortBlock, SideCommand, Stopping
from protocol.text.counted import counted
from protocol.text.listing import listed
from protocol.text.signal_names import signal_name
from sflow_ctl.plan.graph import needs_text
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.planner.show.items import block_facts, foreach_facts
from sflow_ctl.planner.tasks.success import conditions

MAX_SCRIPT_LINES = 12
MAX_REPLICAS_IN_FULL = 5


def shown_members(group: Sequence[PlannedTask]) -> Sequence[PlannedTask]:
    """Return the copies of a task that are shown by themselves: of many only the first is."""
    return group if len(group) <= MAX_REPLICAS_IN_FULL else group[:1]


def task_lines(
    plan: Plan,
    task: PlannedTask,
    members: Mapping[str, Sequence[PlannedTask]],
    common: Mapping[str, str],
    waits: str = "",
    name: str | None = None,
) -> list[str]:
    """Return the lines about a task.

    Args:
        plan: The plan that it is from.
        task: The task.
        members: The tasks of the plan by their names as written.
        common: Variables that all tasks have.
        waits: What it may have to wait for, if it is placed when it is ready.
        name: What to call it. Default: its name.
    """
    is_here = task.block is None
    what = f"{task.operator_kind}, {_where(plan, task)}" if is_here else "block"
    lines = [f"  {name or task.name}  [{what}]"]
    if task.node_count > 1 or task.world_size > 1:
        lines.append(f"    processes: {_processes(task)}")
    if waits:
        lines.append(f"    waits:     {waits}")
    facts = chain(
        foreach_facts(task, len(members.get(task.base, ())), MAX_REPLICAS_IN_FULL),
        block_facts(task),
        _repeats(task),
        _policies(task),
        _surroundings(task, common),
    )
    lines += [f"    {what + ':':<10} {text}" for what, text in facts]
    if is_here:
        lines.append("    script:")
        script = task.script.splitlines()
        lines += [f"      {line}" for line in script[:MAX_SCRIPT_LINES]]
        if len(script) > MAX_SCRIPT_LINES:
            lines.append(f"      ... and {counted(len(script) - MAX_SCRIPT_LINES, 'more line')}")
    return lines


def block_lines(plan: Plan, block: str, common: Mapping[str, str]) -> list[str]:
    """Return the lines about a block: what goes in and comes out, and its tasks."""
    from sflow_ctl.format.merged.blocks import as_written  # few plans have blocks
    from sflow_ctl.plan.revisions.blocks import MARK

    planned = plan.blocks[block]
    takes = [name if kind is None else f"{name} ({kind})" for name, (kind, _) in planned.inputs.items()]
    lines = [
        f"Block {block}: takes {listed(takes, 8) or 'nothing'}; gives {listed(list(planned.outputs), 8) or 'nothing'}"
    ]
    members: dict[str, list[PlannedTask]] = {}
    for task in plan.block_tasks.get(block, ()):
        members.setdefault(task.base, []).append(task)
    for group in members.values():
        for task in shown_members(group):
            lines += task_lines(plan, task, members, common, name=task.name.partition(MARK)[2])
    return [as_written(line, plan.blocks) for line in lines]


def _repeats(task: PlannedTask) -> Iterator[tuple[str, str]]:
    """Return the lines about a task's replicas, attempts and time limits."""
    if task.sweep:
        yield "sweep", ", ".join(f"{name}={value}" for name, value in task.sweep)
    if task.labels:
        yield "labels", ", ".join(f"{name}={value}" for name, value in task.labels)
    if task.retries.count:
        retries = task.retries
        only = (
            ""
            if retries.reasons is None
            else f", only after {', '.join(retries.reasons) or 'transient exit statuses'}"
        )
        yield (
            "retries",
            f"{retries.count}, after {retries.interval_s:g} s, backoff {retries.backoff:g}{only}",
        )
    if task.timeout_s is not None:
        yield "timeout", f"{task.timeout_s:g} s"
    if task.retries.total_s is not None:
        yield "total", f"{task.retries.total_s:g} s for all attempts"
    if task.retries.queue_s is not None:
        yield "queue", f"{task.retries.queue_s:g} s without a free place at most"
    if task.progress:
        yield "progress", f"lines of its log that match {task.progress}"


def _surroundings(task: PlannedTask, common: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Return the lines about a task's environment, conditions, probes, ports, files and variables."""
    if task.bootstrap is not None:
        from protocol.bootstrap import shown_steps  # few tasks have one

        steps = shown_steps(task.bootstrap.shared, task.bootstrap.before)
        yield "before", f"environment {task.bootstrap.name}: {'; '.join(steps) or 'variables only'}"
    for condition in conditions(task.success) if task.success is not None else ():
        yield "success", condition
    for probe in task.probes:
        yield probe.kind, probe_text(task, probe)
    if task.ports:
        yield "ports", f"{', '.join(map(_block, task.ports))}; leased on its nodes when it starts"
    if task.files:
        yield "files", ", ".join(file.path for file in task.files)
    if any(limit is not None for limit in task.deadlines_s):
        yield "deadline", _deadlines(task)
    own = {name: value for name, value in task.env.items() if common.get(name) != value}
    if own:
        yield "env", ", ".join(variables_text(own))


def _deadlines(task: PlannedTask) -> str:
    """Return within which time a task must be ready, and each of its checks must end."""
    parts = [part for probe in task.probes if probe.kind == "readiness" for part in probe.parts]
    limits = {part.timeout_s for part in parts}
    checks = "".join(f", each check within {limit:g} s" for limit in limits) if len(limits) == 1 else ""
    if len(set(task.deadlines_s)) == 1:
        return f"ready within {task.deadlines_s[0]:g} s{checks}"
    own = [
        f"probe {number} without limit" if limit is None else f"probe {number} within {limit:g} s"
        for number, limit in enumerate(task.deadlines_s, 1)
    ]
    return f"{', '.join(own)}{checks}"


def _policies(task: PlannedTask) -> Iterator[tuple[str, str]]:
    """Return lines about the task's end, where they differ from the defaults."""
    if task.kind is not None:
        yield "kind", task.kind
    if task.is_main:
        yield "main", "the run ends with it"
    if task.finally_when is not None:
        beside = task.finally_when == "services_up"
        yield "finally", "when the run ends, " + ("beside the services" if beside else "after all is stopped")
    if task.on_failure != "cancel":
        yield "if it fails", _ON_FAILURE[task.on_failure]
    if task.restart is not None:
        window = f" within {task.restart.window_s:g} s" if task.restart.window_s is not None else ""
        after = "every end" if task.restart.policy == "always" else "a failure"
        others = ", with its running dependants" if task.restart.restarts_dependents else ""
        backoff = f"after {task.restart.backoff_s:g} s, doubling"
        yield "restart", f"after {after}, {counted(task.restart.count, 'time')}{window}, {backoff}{others}"
    if task.stopping != Stopping():
        yield "stop", _stopping(task.stopping)
    if task.hang is not None:
        yield "hang", _hang(task.hang, is_service=task.is_service)
    if task.is_log_direct:
        yield "log", "written by the task itself"
    if task.success_exit_codes != (0,):
        yield "success", f"exit status {' or '.join(map(str, task.success_exit_codes))}"


def _stopping(stopping: Stopping) -> str:
    command = f"{_side_command(stopping.command)}, then " if stopping.command is not None else ""
    return f"{command}{signal_name(stopping.signal)}, then SIGKILL after {stopping.grace_s:g} s"


def _hang(hang: HangPolicy, *, is_service: bool) -> str:
    limits = (("output", hang.no_output_s), ("use of its GPUs", hang.no_gpu_use_s))
    what = " or ".join(f"no {name} for {limit_s:g} s" for name, limit_s in limits if limit_s is not None)
    if hang.stalled_s is not None:
        about = "line about its progress" if hang.progress_lines else "output"
        told = f"a notice is sent after no {about} for {hang.stalled_s:g} s"
        if not what:
            return told
        what = f"{told}; ended after {what}"
    until = " until it is ready" if is_service and not hang.is_always else ""
    return f"{what}{until}" + (f"; then {_side_command(hang.command)}" if hang.command is not None else "")


def _side_command(command: SideCommand) -> str:
    line = command.argv[-1] if command.argv[:2] == ("bash", "-c") else " ".join(command.argv)
    return f"{short(line, 60)!r} for up to {command.timeout_s:g} s"


_ON_FAILURE = {
    "drain": "running tasks may finish, nothing new starts",
    "isolate": "dependants are stopped, other tasks continue, the run fails at its end",
    "continue": "dependants that have not started are skipped, the run may still succeed",
}


def variables_text(env: Mapping[str, str]) -> list[str]:
    """Return "NAME=the first line of its value" for each variable."""
    return [
        f"{name}={short(value.splitlines()[0] if value else '', 100)}" for name, value in sorted(env.items())
    ]


def _block(block: PortBlock) -> str:
    many = f" × {block.count}" if block.count > 1 else ""
    return f"{block.name}{many}{' in a row' if block.contiguous and many else ''}"


def probe_text(task: PlannedTask, probe: Probe) -> str:
    """Return what a probe of a task asks, and how its checks are combined."""
    deferred_ports = {deferred.key: deferred.text for deferred in task.deferred_tcp_ports}
    texts = [
        _check(check, deferred_ports.get(key))
        for key, check in zip(probe.keys(), probe.all_checks, strict=True)
    ]
    parts = []
    for part in probe.parts:
        own, texts = texts[: len(part.checks)], texts[len(part.checks) :]
        text = (" and " if part.needs_all else " or ").join(own)
        parts.append(text + (" on each node" if part.on_node == "each" else ""))
    return ("; and once " if probe.kind == "readiness" else "; or ").join(parts)


def _check(check: Check, deferred_port: str | None) -> str:
    match check:
        case TcpCheck():
            host = f"{check.host}:" if check.host is not None else ""
            return f"port {host}{deferred_port or check.port}"
        case HttpCheck():
            return f"{check.method} {short(check.url, 60)}"
        case ExecCheck():
            return f"command {short(' '.join(check.argv), 60)!r}"
        case LogCheck():
            return f"log {check.pattern.pattern!r}"
        case _:
            assert_never(check)


def _where(plan: Plan, task: PlannedTask) -> str:
    placement, host = task.placement, "" if task.needs is None else f", asks for {task.needs.text()}"
    if placement.is_flexible:
        return f"placed when ready: {needs_text(placement)}{host}"
    names = ", ".join(plan.nodes[index].name for index in placement.nodes)
    shared = " (shared)" if placement.is_shared else ""
    gpus = f", GPUs {','.join(map(str, placement.gpus))}{shared}" if placement.gpus else ""
    return f"{short(names, 80)}{gpus}{host}"


def _processes(task: PlannedTask) -> str:
    """Return how many processes a task of several nodes or processes has, and where."""
    if task.launch_kind == "step":
        return f"those of a job step on {counted(task.node_count, 'node')}"
    used = task.ranks_per_node
    if len(set(used)) == 1 and len(used) == task.node_count:
        return f"{sum(used)}, {used[0]} on each node" if len(used) > 1 else f"{sum(used)} on one node"
    return f"{sum(used)}, on {len(used)} of {counted(task.node_count, 'node')}"


def short(text: str, width: int) -> str:
    """Return a text with at most so many characters."""
    return text if len(text) <= width else text[: width - 3] + "..."
