"""Runs over the components of a heterogeneous job, and over the nodes of a job together with the machine of the controller."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.slurm.counted_srun import CountedSrun
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

POOL = "pool: {type: slurm, account: lab, partition: main, time: '00:10:00', nodes: 3, gpus_per_node: 1}"


def workflow(cluster: Cluster, backends: str, tasks: str) -> Path:
    """A file that every node sees."""
    path = cluster.shared / "components.yaml"
    path.write_text(
        f'version: "0.1"\nbackends: {{{backends}}}\noperators:\n  one: {{type: srun, ntasks: 1}}\n'
        f"  step: {{type: srun, mpi: none}}\nworkflow:\n  name: w\n  tasks:\n{tasks}"
    )
    return path


def command(cluster: Cluster, path: Path) -> str:
    return f"{SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run"


def on_two_components(
    cluster: Cluster, tasks: str, counted: CountedSrun | None = None, how: str = "sbatch"
) -> subprocess.CompletedProcess[str]:
    """A run in a job of one node with 2 GPUs and two nodes with 1 each, to its end."""
    path = workflow(cluster, POOL, tasks)
    prefix = f"export PATH={counted.directory}:$PATH; " if counted else ""
    run = f"{prefix}exec {command(cluster, path)}"
    if how == "salloc":
        argv = ["salloc", "-N1", "--gres=gpu:2", ":", "-N2", "--gres=gpu:1", "bash", "-c", run]
        return cluster.run_in_node("head", argv, within_s=90)
    header = "#!/bin/bash\n#SBATCH --nodes=1 --gres=gpu:2\n#SBATCH hetjob\n"
    header += "#SBATCH --nodes=2 --gres=gpu:1 --ntasks=4 --ntasks-per-node=2\n"
    number = int(
        cluster.slurm(
            "sbatch", "--parsable", f"--output={cluster.shared}/job-%j.out", stdin=f"{header}{run}\n"
        )
    )
    job = cluster.wait_job(number, within_s=90)
    return subprocess.CompletedProcess([], int(job.exit_code.split(":")[0]), cluster.output(number), "")


def log_of(cluster: Cluster, task: str) -> list[str]:
    return sorted((cluster.shared / "out" / "run" / task / f"{task}.log").read_text().splitlines())


@pytest.mark.parametrize("how", ["sbatch", "salloc"])
def test_one_srun_spans_all_components_in_their_order(how: str, cluster: Cluster, tmp_path: Path) -> None:
    counted = CountedSrun(cluster.shared / tmp_path.name)
    tasks = (
        "    - {name: all, script: ['echo $SLURM_PROCID $(hostname) $CUDA_VISIBLE_DEVICES']}\n"
        "    - {name: g, operator: one, replicas: {count: 3}, resources: {gpus: {count: 1}},\n"
        "       script: ['echo $(hostname) $CUDA_VISIBLE_DEVICES']}\n"
    )
    done = on_two_components(cluster, tasks, counted, how)
    assert done.returncode == 0, done.stdout + done.stderr
    (agents,) = counted.calls()
    assert agents.count(":") == 1
    assert {"--het-group=0", "--het-group=1"} <= set(agents)
    plan = json.loads((cluster.shared / "out" / "run" / ".sflow/plan.json").read_text())
    groups = {node["name"]: node["het_group"] for node in plan["nodes"]}
    assert groups == {"node0": 0, "node1": 1, "node2": 1}
    assert log_of(cluster, "all") == ["0: 0 node0 0,1", "1: 1 node1 0", "2: 2 node2 0"]
    assert [log_of(cluster, f"g_{n}") for n in range(3)] == [[f"node{n} 0"] for n in range(3)]
    assert not ours_left(cluster)


def test_a_real_step_runs_in_the_component_of_its_nodes(cluster: Cluster) -> None:
    tasks = (
        "    - {name: first, operator: step, resources: {nodes: {indices: [0]}}, script: ['hostname']}\n"
        "    - {name: second, operator: step, resources: {nodes: {indices: [1, 2]}}, script: ['hostname']}\n"
        "    - {name: later, operator: {name: step, ntasks: 1}, replicas: {count: 5}, depends_on: [second],\n"
        "       resources: {gpus: {count: 1}}, script: ['hostname']}\n"
    )
    done = on_two_components(cluster, tasks)
    assert done.returncode == 0, done.stdout + done.stderr
    assert log_of(cluster, "first") == ["node0"]
    assert log_of(cluster, "second") == ["0: node1", "1: node2"]
    hosts = [log_of(cluster, f"later_{n}")[0] for n in range(5)]
    assert set(hosts) == {"node0", "node1", "node2"}


def test_a_real_step_over_two_components_is_refused_before_anything_starts(cluster: Cluster) -> None:
    done = on_two_components(cluster, "    - {name: t, operator: step, script: ['hostname']}\n")
    assert done.returncode == 2
    assert "step-spans-components" in done.stdout
    assert "its nodes belong to components 0, 1 of a heterogeneous job" in done.stdout
    assert "resources.nodes.indices" in done.stdout
    assert not (cluster.shared / "out").exists()


def test_a_heterogeneous_job_can_be_used_by_the_number_of_any_component(cluster: Cluster) -> None:
    path = workflow(cluster, POOL, "    - {name: t, script: ['hostname']}\n")
    header = "#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH --gres=gpu:1\n#SBATCH hetjob\n#SBATCH --nodes=2 --gres=gpu:1\n"
    number = int(cluster.slurm("sbatch", "--parsable", "--output=/dev/null", stdin=f"{header}sleep 300\n"))
    cluster.wait_job(number, "RUNNING", within_s=30)
    for job in (number, number + 1):
        argv = command(cluster, path).replace("--run-id run", f"--run-id run{job}").split()
        done = cluster.run_in_node("head", [*argv, f"--jobid={job}"], within_s=60)
        assert done.returncode == 0, done.stdout + done.stderr
        log = cluster.shared / "out" / f"run{job}" / "t" / "t.log"
        assert sorted(log.read_text().splitlines()) == [f"{n}: node{n}" for n in range(3)]
    cluster.scancel(number)


MIXED = """    - name: server
      backend: here
      script: ['cd $SFLOW_TASK_OUTPUT_DIR; echo hello > index.html; exec python3 -u -m http.server 8123']
      probes: {readiness: {tcp_port: {port: 8123}}}
    - name: client
      backend: pool
      depends_on: [server]
      script:
      - |
        exec 3<>/dev/tcp/${{ task.server.nodes[0].ip_address }}/8123
        printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3
        echo $(hostname) $(tail -n 1 <&3) $SLURM_PROCID
    - name: last
      backend: here
      depends_on: [client]
      script: ['echo $(hostname) ${{ backends.here.nodes[0].name }} ${SLURM_PROCID-none}']
"""


@pytest.mark.parametrize("where", ["inside the job", "on the login node"])
@pytest.mark.parametrize("first", ["here", "pool"])
def test_local_and_slurm_backends_work_in_one_run(where: str, first: str, cluster: Cluster) -> None:
    both = ["here: {type: local}", POOL]
    path = workflow(cluster, ", ".join(both if first == "here" else reversed(both)), MIXED)
    if where == "inside the job":
        number = cluster.sbatch(f"exec {command(cluster, path)}", nodes=3, gres="gpu:1")
        job = cluster.wait_job(number, within_s=90)
        assert job.state == "COMPLETED", cluster.output(number)
        host = job.batch_host
    else:
        done = cluster.run_in_node(
            "head", [*command(cluster, path).split(), "--extra-args=--gres=gpu:1"], within_s=90
        )
        assert done.returncode == 0, done.stdout + done.stderr
        host = "head"
    assert log_of(cluster, "client") == [f"{n}: node{n} hello {n}" for n in range(3)]
    assert log_of(cluster, "last") == [f"{host} {host} none"]
    plan = json.loads((cluster.shared / "out" / "run" / ".sflow/plan.json").read_text())
    assert {(node["backend"], node["backend_type"]) for node in plan["nodes"]} == {
        ("here", "local"),
        ("pool", "slurm"),
    }
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)


def test_a_failure_here_ends_the_tasks_on_the_nodes_and_the_other_way_round(cluster: Cluster) -> None:
    services = (
        "    - {name: far, backend: pool, script: ['echo up; exec sleep 7777'],\n"
        "       probes: {readiness: {log_watch: {regex_pattern: up, match_count: 3}}}}\n"
        "    - {name: near, backend: here, script: ['echo up; exec sleep 7777'],\n"
        "       probes: {readiness: {log_watch: {regex_pattern: up}}}}\n"
    )
    for backend, operator in (("here", "bash"), ("pool", "one")):
        chosen = f", operator: {operator}" if operator == "one" else ""
        bad = (
            f"    - {{name: bad, backend: {backend}{chosen}, depends_on: [far, near], script: ['exit 3']}}\n"
        )
        path = workflow(cluster, f"here: {{type: local}}, {POOL}", services + bad)
        number = cluster.sbatch(
            f"exec {command(cluster, path).replace('--run-id run', f'--run-id {backend}')}",
            nodes=3,
            gres="gpu:1",
        )
        job = cluster.wait_job(number, within_s=90)
        assert (job.state, job.exit_code) == ("FAILED", "1:0"), cluster.output(number)
        assert "task bad failed: exit status 3" in cluster.output(number)
        wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)


def test_tasks_here_and_there_end_when_the_controller_is_killed(cluster: Cluster) -> None:
    tasks = "    - {name: near, backend: here, script: ['setsid sleep 7777 & exec sleep 7777']}\n"
    tasks += "    - {name: far, backend: pool, script: ['exec sleep 7777']}\n"
    path = workflow(cluster, f"here: {{type: local}}, {POOL}", tasks)
    script = f"{command(cluster, path)} --orphan-grace 3 &\necho $! > {cluster.shared}/pid\nwait\nsleep 60"
    number = cluster.sbatch(script, nodes=3, gres="gpu:1")
    wait_until(
        lambda: len([one for one in ours_left(cluster) if "sleep 7777" in one]) >= 5, "the tasks run", 60
    )
    host = cluster.job(number).batch_host
    cluster.run_in_node(host, ["bash", "-c", f"kill -9 $(cat {cluster.shared}/pid)"])
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)
    cluster.scancel(number)
