"""The names of monitors' files in a run directory. They are sflow's, beside the tasks' directories: its readers look for them."""

from pathlib import Path

from protocol.messages.monitor import SCOPES, Scope
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.monitor.metrics import raw_name

DIRECTORY, RAW, OVERVIEW = "sflow_monitor", "sflow_monitor/raw", "sflow_monitor.log"
TIMELINE, SUMMARY, WINDOW, NO_WINDOW = "timeline.csv", "summary.csv", "window.json", "window_not_found.json"


def raw_path(directory: Path, plan: Plan, scope: Scope, node: int) -> Path:
    """Return the raw file of a scope of the node at this position."""
    return directory / RAW / raw_name(scope, plan.nodes[node].index, host_of(plan, node))


def raw_paths(directory: Path, plan: Plan, node: int) -> dict[Scope, Path]:
    """Return the raw files of a node that exist."""
    paths = {scope: raw_path(directory, plan, scope, node) for scope in SCOPES}
    return {scope: path for scope, path in paths.items() if path.exists()}


def host_of(plan: Plan, node: int) -> str:
    """Return a node's name as part of a file's name."""
    return plan.nodes[node].name.replace("/", "_")
