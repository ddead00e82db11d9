"""Shared by tests of whole runs in jobs."""

import json
import shutil
import sys

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.settings import HEAD

SFLOW_CTL = f"{sys.executable} -m sflow_ctl"


def summary(cluster: Cluster) -> dict[str, object]:
    """Of the run that has ended."""
    loaded: dict[str, object] = json.loads(
        (cluster.shared / "out" / "run" / ".sflow/summary.json").read_text()
    )
    return loaded


@pytest.fixture(autouse=True)
def fresh(cluster: Cluster) -> None:
    """No run of a test before."""
    shutil.rmtree(cluster.shared / "out", ignore_errors=True)


def kill_run(cluster: Cluster, host: str) -> None:
    """Kill a run's supervisor, then its controller, before that can do anything about it."""
    found = [one for one in cluster.processes_in_node(host) if "-m sflow_ctl run" in one.command]
    assert len(found) == 2, [one.command for one in found]
    for one in sorted(found, key=lambda process: (process.started, process.pid)):
        one.kill()


def ours_left(cluster: Cluster) -> list[str]:
    """Processes of agents or tasks on any node."""
    return [
        f"{node} {process.pid} {process.command}"
        for node in (HEAD, *cluster.nodes)
        for process in cluster.processes_in_node(node)
        if any(word in process.command for word in ("sflow_agent", "sflow_ctl", "sleep 7777"))
    ]
