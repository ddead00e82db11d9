"""Words that the format and the plan share, and parts of a plan as words, such as what a placement takes."""

from typing import TYPE_CHECKING, Literal, TypeAlias

from protocol.text.counted import counted

if TYPE_CHECKING:
    from sflow_ctl.plan.model import Dependency, Placement, PlannedTask

Until: TypeAlias = Literal["available", "ready", "started", "completed", "finished", "failed"]
"""How far a dependency must be. `available`, the format's own meaning, is ready or completed; `finished` is any end."""
OnFailure: TypeAlias = Literal["cancel", "drain", "isolate", "continue"]
"""What happens to the run when a task has failed for good.

It is stopped; nothing new starts; dependants are stopped; only dependants that have not started are skipped,
and the failure does not count.
"""
Compat: TypeAlias = Literal["ours", "0.3.1", "0.2"]
"""Whose rules apply: ours, or those of a version of sflow, known traps included."""


def needs_text(placement: "Placement") -> str:
    """Say what a placement takes: "4 GPUs on each of 2 nodes"."""
    per_node = placement.gpus_per_node if placement.is_flexible else len(placement.gpus)
    count = placement.node_count if placement.is_flexible else len(placement.nodes)
    where = "one node" if count == 1 else f"each of {count} nodes"
    return f"{counted(per_node, 'GPU')} on {where}" if per_node else where


def until_text(dependency: "Dependency", target: "PlannedTask") -> str:
    """Say how far the dependency must be: "Ready", "Completed", "Failed"."""
    if dependency.until == "available":
        return "Ready" if target.is_service else "Completed"
    return dependency.until.capitalize()
