"""Warns of copies of a task that wait for the same port on one node. Called by the pipeline."""

from collections.abc import Iterator, Sequence

from protocol.messages.checks import TcpCheck
from sflow_ctl.plan.copies.task_list import members_of
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.planner.findings import Findings


def warn_of_fixed_ports(tasks: Sequence[PlannedTask], findings: Findings) -> None:
    """Warn once for each task of which two copies may run side by side on a node, with the same port in a readiness probe."""
    for base, copies in members_of(tasks).items():
        if len(copies) < 2 or not next(_ports(copies[0]), 0):
            continue
        shared = next(_shared(copies), None)
        if shared is not None:
            name, port = shared
            what = f'copies of task "{base}" may run on one node, and {name} waits for port {port} as an earlier one does'
            hint = "lease one for each: ports: {NAME: 1} and ${{ port.NAME }}, or add replica.index to it"
            findings.warn("fixed-port", what, findings.loaded.where("tasks", base, "probes"), hint)


def _shared(copies: Sequence[PlannedTask]) -> Iterator[tuple[str, int]]:
    """Yield copies whose port an earlier one has on a node where both may be, unless they run one after the other."""
    names = {task.name for task in copies}
    taken: dict[int, set[int]] = {}
    for task in copies:
        if any(one.task in names for one in task.depends_on):
            continue  # a chain
        placement = task.placement
        for port in _ports(task):
            on = taken.setdefault(port, set())
            if on.intersection(placement.nodes) and not _has_nodes_to_itself(task):
                yield task.name, port
            on.update(placement.nodes)


def _has_nodes_to_itself(task: PlannedTask) -> bool:
    return task.claims_nodes_until is not None


def _ports(task: PlannedTask) -> Iterator[int]:
    for probe in task.probes:
        if probe.kind == "readiness":
            yield from (one.port for one in probe.checks if isinstance(one, TcpCheck) and one.port)
