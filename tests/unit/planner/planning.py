"""Plans written as text, for tests of the planner."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from protocol.errors import Finding, PlanError
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.pipeline import build_plan

CONTEXT = PlanContext(
    workspace_dir="/ws",
    output_dir="/out",
    run_directory="/out/run",
    run_id="run",
    nodes_override=None,
    gpus_per_node_override=None,
    max_running=None,
    path_exists=lambda _: True,
)
"""Where tests plan. They replace what they are about."""


def plan_of(folder: Path, text: str, **context: Any) -> Plan:
    """Plan a workflow. `context` are other fields of the context. Raises: SpecError, PlanError."""
    path = folder / "w.yaml"
    path.write_text(f'version: "0.1"\n{text}')
    return build_plan(
        load_documents([path]), replace(CONTEXT, **{"allow_placeholder_nodes": True, **context})
    )


def findings_of(folder: Path, text: str, **context: Any) -> list[Finding]:
    """Return the findings of a workflow that cannot be planned."""
    try:
        plan_of(folder, text, **context)
    except PlanError as error:
        return list(error.findings)
    raise AssertionError("it was planned")
