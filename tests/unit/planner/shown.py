"""A small plan with a service, replicas and GPUs, for tests of how plans are shown."""

from pathlib import Path

from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.pipeline import PlanContext, build_plan

TEXT = """
version: "0.1"
variables: {PORT: 9000}
backends: {pool: {type: local, nodes: 2, gpus_per_node: 4}}
workflow:
  name: demo
  timeout: 10m
  tasks:
    - name: start
      script: [serve]
      resources: {gpus: {count: 2}}
      probes: {readiness: {tcp_port: {port: "${{ PORT }}"}}}
    - name: load
      script: ['echo "<${{ replica.index }}>"']
      depends_on: [start]
      replicas: {count: 5, policy: sequential}
      retries: {count: 1, interval: 2}
    - {name: check, script: [x], depends_on: [load]}
"""


def demo(folder: Path) -> Plan:
    """The plan."""
    path = folder / "w.yaml"
    path.write_text(TEXT)
    context = PlanContext(
        workspace_dir="/ws",
        output_dir="/out",
        run_directory="/out/run",
        run_id="run",
        nodes_override=None,
        gpus_per_node_override=None,
        max_running=None,
        path_exists=lambda _: True,
    )
    return build_plan(load_documents([path]), context)
