"""The nodes of a run and which task has which of their GPUs, as rows of the full-screen view. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from sflow_ctl.core.states import LIVE
from sflow_ctl.report.looking.places import gpu_owners
from sflow_ctl.report.run_view import RunView

MAX_NAMES = 6


class GpuCell(Struct, frozen=True):
    """One GPU of a node."""

    index: int
    task: str
    """The task that has it; empty if it is free."""


class NodeRow(Struct, frozen=True):
    """One node in the list."""

    name: str
    state: str
    """`joined`, `waiting` for its agent, `lost`, or `spare`."""
    tasks: tuple[str, ...]
    """The live tasks whose first process is here."""
    gpus: tuple[GpuCell, ...]
    detail: str
    """Why it is lost, or what holds up its agent."""


def node_rows(
    state: RunView, joined: frozenset[int], lost: Mapping[int, str], standing_still: Mapping[str, str]
) -> list[NodeRow]:
    """Return all nodes of the plan in its order; `standing_still` has what holds up the agents of nodes, by name."""
    live: dict[int, list[str]] = {}
    for record in state.tasks.values():
        if record.state in LIVE and record.node is not None:
            live.setdefault(record.node, []).append(record.name)
    owners = gpu_owners(state)
    rows = []
    for node in state.plan.nodes:
        word = "joined" if node.index in joined else "waiting"
        if node.is_spare and node.index not in live:
            word = "spare"
        rows.append(
            NodeRow(
                name=node.name,
                state="lost" if node.index in lost else word,
                tasks=tuple(live.get(node.index, ())),
                gpus=tuple(
                    GpuCell(index, owners.get(node.index, {}).get(index, ""))
                    for index in range(node.gpus or 0)
                ),
                detail=lost.get(node.index, "") or standing_still.get(node.name, ""),
            )
        )
    return rows


def gpu_map_text(row: NodeRow) -> str:
    """Return `0-3 server, 4 free`: which GPUs of a node are whose; `-` for a node without GPUs."""
    parts: list[str] = []
    start = 0
    cells = row.gpus
    for at in range(1, len(cells) + 1):
        if at == len(cells) or cells[at].task != cells[start].task:
            first, last = cells[start].index, cells[at - 1].index
            span = str(first) if first == last else f"{first}-{last}"
            parts.append(f"{span} {cells[start].task or 'free'}")
            start = at
    return ", ".join(parts) or "-"


def tasks_text(row: NodeRow) -> str:
    """Return the names of a node's live tasks, the first of many."""
    shown = ", ".join(row.tasks[:MAX_NAMES])
    more = len(row.tasks) - MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown or "-"
