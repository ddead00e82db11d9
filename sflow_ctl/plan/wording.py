"""Parts of a plan as words: what a placement takes, how far a dependency must be. Used by plans, graphs and the scheduler."""

from protocol.text.counted import counted
from sflow_ctl.plan.model import Dependency, Placement, PlannedTask


def needs_text(placement: Placement) -> str:
    """Say what a placement takes: "4 GPUs on each of 2 nodes"."""
    per_node = placement.gpus_per_node if placement.is_flexible else len(placement.gpus)
    count = placement.node_count if placement.is_flexible else len(placement.nodes)
    where = "one node" if count == 1 else f"each of {count} nodes"
    return f"{counted(per_node, 'GPU')} on {where}" if per_node else where


def until_text(dependency: Dependency, target: PlannedTask) -> str:
    """Say how far the dependency must be: "Ready", "Completed", "Failed"."""
    if dependency.until == "available":
        return "Ready" if target.is_service else "Completed"
    return dependency.until.capitalize()
