"""Spare nodes in a real Slurm job: a node without power, and one whose agent never reports."""

from pathlib import Path

import pytest

from sflow_ctl.slurm.nodelist import expand_nodelist
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

WORKFLOW = """version: "0.1"
backends:
  pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 3, gpus_per_node: 4, spares: 1}
workflow:
  name: w
  tasks:
    - name: server
      replicas: {count: 2}
      resources: {nodes: {count: 1}, gpus: {count: 2}}
      ports: {http: 1}
      probes: {readiness: {tcp_port: {port: "${{ port.http }}"}, interval: 1}}
      restart: {policy: on_failure, dependents: restart, backoff: 0.1}
      script:
        - echo "attempt $SFLOW_ATTEMPT on $(hostname) gpus $CUDA_VISIBLE_DEVICES"
        - exec python3 -S -m http.server "$SFLOW_PORT_HTTP"
    - name: client
      depends_on: [server]
      resources: {nodes: {count: 1}}
      script:
        - echo "attempt $SFLOW_ATTEMPT uses ${{ task.server_0.nodes[0].name }} ${{ task.server_1.nodes[0].name }}"
        - until [ -e GO ]; do sleep 0.1; done
"""


def begin(cluster: Cluster, options: str = "") -> int:
    """Return the job of a run, whose tasks end once `go` is there."""
    go = cluster.shared / "go"
    go.unlink(missing_ok=True)
    path = cluster.shared / "w.yaml"
    path.write_text(WORKFLOW.replace("GO", str(go)))
    run = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run --lost-after 3 --orphan-grace 4 {options}"
    return cluster.sbatch(run, nodes=3, gres="gpu:4", no_kill=True)


def log(cluster: Cluster, task: str) -> str:
    """Return the log of a task's last attempt so far."""
    path: Path = cluster.shared / "out" / "run" / task / f"{task}.log"
    return path.read_text() if path.exists() else ""


def test_a_service_moves_to_the_spare_node_of_the_job_with_its_dependants(cluster: Cluster) -> None:
    number = begin(cluster)
    wait_until(lambda: "attempt 1 uses" in log(cluster, "client"), f"all runs\n{cluster.output(number)}", 40)
    job = cluster.job(number)
    nodes = expand_nodelist(job.node_list)
    first = {name: log(cluster, name).split()[3] for name in ("server_0", "server_1")}
    assert set(first.values()) <= set(nodes[:2]), "the last node is the spare one"
    victim, name = next((node, name) for name, node in first.items() if node != job.batch_host)
    cluster.power_off(victim)
    wait_until(lambda: "attempt 2 uses" in log(cluster, "client"), cluster.output(number), 60)
    assert log(cluster, name).startswith(f"attempt 2 on {nodes[2]} gpus ")
    (cluster.shared / "go").touch()
    ended = cluster.wait_job(number, within_s=60)
    output = cluster.output(number)
    assert ended.exit_code == "0:0", output
    assert f"{nodes[2]} takes the place of {victim}; no spare node is left" in output
    assert log(cluster, "client").split()[3:] == [
        nodes[2] if one == name else first[one] for one in ("server_0", "server_1")
    ]
    tasks = summary(cluster)["tasks"]
    assert isinstance(tasks, list)
    assert {task["name"]: task["moved_from"] for task in tasks}[name] == [victim]
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)
