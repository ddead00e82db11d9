"""Real servers that detach, and wipe or rewrite their environment, in job steps: whose they are, and that they end.

With each way in which Slurm tracks processes: linuxproc and pgid lose a daemon, cgroup does not.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.record import PREFIX
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.slurm.settings import Settings

PROGRAMS = ("nginx", "redis-server", "redis-cli", "curl")
MISSING = [one for one in PROGRAMS if shutil.which(one, path=f"{os.environ['PATH']}:/usr/sbin") is None]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
__all__ = ["fresh"]

FREEZER = Path("/sys/fs/cgroup/freezer")
NGINX = """pid PLACE/nginx.pid;
error_log PLACE/nginx.log;
worker_processes 1;
events {}
http {
  access_log off;
  client_body_temp_path PLACE; proxy_temp_path PLACE; fastcgi_temp_path PLACE; uwsgi_temp_path PLACE; scgi_temp_path PLACE;
  server { listen 24480; location / { return 200 "hello\\n"; } }
}
"""
START = """        - 'mkdir -p PLACE/$SLURMD_NODENAME'
        - 'sed "s|PLACE|PLACE/$SLURMD_NODENAME|g" PLACE/nginx.conf > PLACE/$SLURMD_NODENAME/nginx.conf'
        - 'nginx -c PLACE/$SLURMD_NODENAME/nginx.conf'
        - 'redis-server --port 24481 --save "" --daemonize yes --dir PLACE/$SLURMD_NODENAME > /dev/null'
        - 'until redis-cli -p 24481 ping > /dev/null 2>&1; do sleep 0.05; done'
"""
ASK = "curl -s http://127.0.0.1:24480/; redis-cli -p 24481 ping 2>&1"
WORKFLOW = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 2, gpus_per_node: 4}}
operators:
  both: {type: srun, ntasks: 2, ntasks_per_node: 1, mpi: none}
workflow:
  name: w
  tasks:
    - name: leaves
      operator: both
      script:
START        - 'ASK'
    - name: after
      depends_on: [leaves]
      script: ['for n in $(seq 150); do ASK > /dev/null || break; sleep 0.1; done; ASK || true']
    - name: web
      operator: both
      depends_on: [after]
      probes: {readiness: {tcp_port: {port: 24480, on_node: each}, deadline: 20}}
      script:
START        - 'exec sleep 7777'
    - name: store
      operator: both
      depends_on: [web]
      probes: {readiness: {tcp_port: {port: 24482, on_node: each}, deadline: 20}}
      script: ['exec redis-server --port 24482 --save "" --dir PLACE/$SLURMD_NODENAME']
    - {name: uses, main: true, depends_on: [web, store], script: ['ASK']}
"""


def log(cluster: Cluster, task: str) -> list[str]:
    return (cluster.shared / "out" / "run" / task / f"{task}.log").read_text().splitlines()


def servers_left(cluster: Cluster) -> list[str]:
    return [
        f"{node} {process.command}"
        for node in cluster.nodes
        for process in cluster.processes_in_node(node)
        if process.name in ("nginx", "redis-server")
    ]


@pytest.fixture
def tracking(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Cluster]:
    """A cluster with this way of tracking processes."""
    way: str = request.param
    if way == "linuxproc":
        yield cluster
        return
    if way == "cgroup" and not FREEZER.is_dir():
        pytest.skip("proctrack/cgroup needs the freezer of control groups, version 1")
    other = Cluster.start(Settings(nodes=2, process_tracking=way), Path(tempfile.mkdtemp(prefix=PREFIX)))
    try:
        yield other
    finally:
        other.end()
        for place in sorted(FREEZER.glob("slurm_node*/**/"), reverse=True) if way == "cgroup" else ():
            place.rmdir()


@pytest.mark.parametrize("tracking", ["linuxproc", "pgid", "cgroup"], indirect=True)
def test_clusters_f2_daemons_of_a_step_are_the_tasks_and_end_with_it(tracking: Cluster) -> None:
    place = tracking.shared / "servers"
    place.mkdir(exist_ok=True)
    (place / "nginx.conf").write_text(NGINX)
    path = tracking.shared / "servers.yaml"
    path.write_text(WORKFLOW.replace("START", START).replace("ASK", ASK).replace("PLACE", str(place)))
    command = f"exec {SFLOW_CTL} run {path} --output-dir {tracking.shared}/out --run-id run"
    job = tracking.wait_job(tracking.sbatch(command, nodes=2, gres="gpu:4"), within_s=60)
    printed = tracking.output(job.number)
    assert job.state == "COMPLETED", printed
    assert sorted(log(tracking, "leaves")) == ["0: PONG", "0: hello", "1: PONG", "1: hello"]
    after = log(tracking, "after")
    assert {line[:2] for line in after} == {"0:", "1:"}
    assert not [line for line in after if "PONG" in line or "hello" in line], "nothing answers any more"
    assert sorted(log(tracking, "uses")) == ["0: PONG", "0: hello", "1: PONG", "1: hello"]
    assert servers_left(tracking) == []
    assert not ours_left(tracking)
    assert summary(tracking)["survivors"] == []
