"""A concrete task with its place: what `requests.py` makes, and the phase of tasks plans."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec import Struct

from protocol.messages.rank_spec import PortBlock
from sflow_ctl.format import schema
from sflow_ctl.plan.copies.names import CopyNames
from sflow_ctl.plan.model import Placement
from sflow_ctl.plan.words import ReleaseAfter
from sflow_ctl.planner.phases.graph import Expanded, Replica
from sflow_ctl.planner.placement.flexible import Alternative


class NodeClaim(NamedTuple):
    """The fields of a planned task about claims of nodes while places are chosen at run time. Meanings: `PlannedTask`."""

    claims_nodes_until: ReleaseAfter | None = None
    heeds_claims: bool = False


class PlacedTask(Struct, frozen=True):
    """One copy of a task, with its placement."""

    expanded: Expanded
    replica: Replica
    backend: schema.Backend
    placement: Placement
    alternative: Alternative
    claim: "NodeClaim"
    ports: tuple[PortBlock, ...] = ()
    served_port: int | None = None
    """The first port that it serves on without leasing it."""
    count: int = 1
    """It stands for so many copies, from `replica` on: those of a task without needs get the same place."""

    @property
    def task(self) -> schema.Task:
        """The task as written, or as the copy's cell of a sweep has it."""
        return self.expanded.task_of(self.replica)

    @property
    def is_elsewhere(self) -> bool:
        """Return whether its work is done elsewhere, and a process of an agent only watches it."""
        return self.task.external is not None or self.backend.type in schema.JOB_BACKENDS

    @property
    def node_count(self) -> int:
        """The number of nodes it runs on."""
        placement = self.placement
        return placement.node_count if placement.is_flexible else len(placement.nodes)

    @property
    def names(self) -> Sequence[str | CopyNames]:
        """Return the names of its copies."""
        names = self.expanded.names
        if self.count == 1 or not isinstance(names, CopyNames):
            return [each.replica.name for each in self.each()]
        return (names,)

    def each(self, first: int = 0) -> "Iterator[PlacedTask]":
        """Yield every copy by itself, from that one on."""
        if self.count == 1 and not first:
            yield self
        else:
            for replica in self.expanded.replicas[first:]:
                yield msgspec.structs.replace(self, replica=replica, count=1)


def in_order(placed: Sequence[PlacedTask]) -> list[PlacedTask]:
    """Return placed tasks in the order of the plan: of a sweep all tasks of a cell before those of the next one."""
    if not any(one.replica.cell is not None for one in placed):
        return list(placed)
    groups: dict[int, list[list[PlacedTask]]] = {}
    order: list[list[list[PlacedTask]]] = []
    for one in placed:
        cells = one.expanded.cells
        if cells is None or one.replica.cell is None:
            order.append([[one]])
            continue
        if id(cells) not in groups:
            groups[id(cells)] = [[] for _ in cells.cells]
            order.append(groups[id(cells)])
        groups[id(cells)][one.replica.cell.cell.index].append(one)
    return [one for group in order for cell in group for one in cell]


@lru_cache(1024)
def once(placement: Placement) -> Placement:
    """Return the first of equal places: 100,000 tasks may all have the same one."""
    return placement
