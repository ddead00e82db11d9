"""A small plan with a service, replicas and GPUs, for tests of how plans are shown."""

from pathlib import Path

from sflow_ctl.plan.model import Plan
from tests.unit.planner.planning import plan_of

TEXT = """
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
    """Return the plan."""
    return plan_of(folder, TEXT)
