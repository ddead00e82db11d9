"""Files of sflow 0.3.1 with pools of type slurm, as they run on real nodes: in a job, with an allocation, and by `batch`.

The cases are those of `tests/conformance/sflow_0_3` with a pool of Slurm; what each must give is in its head.
"""

import re
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import fresh
from tests.slurm.settings import address
from tests.slurm.ways import WAYS, run

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

CASES = Path(__file__).parents[1] / "conformance" / "sflow_0_3"
POOL = "type: slurm, account: lab, partition: main, time: 5"


def case(cluster: Cluster, name: str, *changes: tuple[str, str]) -> Path:
    """Write a case with a Slurm pool, and return its path. Every change must apply."""
    text = next(CASES.glob(f"{name}*.yaml")).read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = cluster.shared / "case.yaml"
    path.write_text(text)
    return path


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way to run a file."""
    name: str = request.param
    return name


SAYS_WHERE = ("echo $CUDA_VISIBLE_DEVICES", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")


def test_08_gpus_by_their_indices(cluster: Cluster, way: str) -> None:
    pool = ("{type: local, nodes: 2", f"{{{POOL}, extra_args: [--gpus-per-node=4], nodes: 2")
    done = run(cluster, way, case(cluster, "08", pool, SAYS_WHERE), nodes=2, gres="gpu:4")
    assert done.status == 0, done.printed
    first, second = "node0", "node1"
    assert done.log("high") == [f"{first} 2,3"]
    assert done.log("both") == [f"0: {first} 1,0", f"1: {second} 1,0"]
    assert done.log("back") == [f"{second} 3"]


def test_09_gpus_are_given_again(cluster: Cluster) -> None:
    pool = ("{type: local", f"{{{POOL}, nodes: 1")
    done = run(cluster, "in a job", case(cluster, "09", pool, SAYS_WHERE), gres="gpu:4")
    assert done.status == 0, done.printed
    assert [done.log(task) for task in ("train", "eval", "report")] == [
        ["node0 0,1,2,3"], ["node0 0,1,2,3"], ["node0 0"]
    ]  # fmt: skip


def test_10_gpus_are_shared_after_ready(cluster: Cluster, way: str) -> None:
    pool = ("{type: local", f"{{{POOL}, nodes: 1, extra_args: [--gpus-per-node=2]")
    done = run(cluster, way, case(cluster, "10", pool, ("sleep 8", "sleep 60")), gres="gpu:2")
    assert done.status == 0, done.printed
    assert done.log("init")[0] == "up 0,1"
    assert done.log("serve") == ["got 0,1"]  # while `init` runs: nobody waits for its 60 s
    (init,) = (one for one in done.summary()["tasks"] if one["name"] == "init")
    assert init["state"] == "completed"


def test_12_nodes_are_claimed(cluster: Cluster, way: str) -> None:
    pool = ("{type: local", f"{{{POOL}, gpus_per_node: 0")
    done = run(cluster, way, case(cluster, "12", pool, ('["true"]', '["echo $SLURMD_NODENAME"]')), nodes=3)
    assert done.status == 0, done.printed
    where = {task: done.log(task) for task in ("a", "b", "c", "later", "plain")}
    assert where == {"a": ["node0"], "b": ["node1"], "c": ["node2"], "later": ["node0"], "plain": ["node2"]}


def test_13_nodes_are_picked(cluster: Cluster) -> None:
    pool = ("{type: local", f"{{{POOL}, gpus_per_node: 0")
    path = case(cluster, "13", pool, ('["true"]', '["echo $SLURMD_NODENAME"]'))
    done = run(cluster, "in a job", path, nodes=4)
    assert done.status == 0, done.printed
    where = {task: done.log(task) for task in ("last", "some", "first_of", "rest")}
    assert where == {
        "last": ["node3"],
        "some": ["0: node1", "1: node3"],
        "first_of": ["node2"],
        "rest": ["0: node2", "1: node3"],
    }


def test_15_a_pool_without_gpus(cluster: Cluster, way: str) -> None:
    pool = ("{type: local", f"{{{POOL}")
    done = run(cluster, way, case(cluster, "15", pool))
    assert done.status == 0, done.printed
    assert done.log("t") == ["none"]


def test_16_a_deadline_is_kept_on_every_node(cluster: Cluster) -> None:
    pool = ("workflow:", f"backends: {{pool: {{{POOL}, nodes: 2, gpus_per_node: 0}}}}\nworkflow:")
    path = case(
        cluster, "16", pool, ("count: 2, interval: 1", "count: 1, interval: 0"), ("timeout: 3", "timeout: 1")
    )
    done = run(cluster, "in a job", path, nodes=2)
    assert done.status == 1, done.printed
    server, client = done.summary()["tasks"]
    assert (server["state"], server["attempts"], client["attempts"]) == ("timeout", 2, 0)
    assert "not ready" in done.printed


def test_21_a_service_has_the_address_of_its_node(cluster: Cluster, way: str) -> None:
    pool = ("workflow:", f"backends: {{pool: {{{POOL}, nodes: 2, gpus_per_node: 0}}}}\nworkflow:")
    on = ("    - name: api", "    - name: api\n      resources: {nodes: {indices: [1]}}")
    client = ("    - name: client", "    - name: client\n      resources: {nodes: {indices: [0]}}")
    path = case(cluster, "21", pool, on, client, (" --bind 127.0.0.1", ""))
    done = run(cluster, way, path, nodes=2)
    assert done.status == 0, done.printed
    host = address("node1")
    assert done.log("client") == [f"{host} 18000 http://{host}:18000"]


NAMES = (
    "SFLOW_BACKEND_JOB_ID", "SFLOW_BACKEND_NODELIST", "SFLOW_BACKEND_NUM_NODES", "SFLOW_TASK_NODE_NAME", "SFLOW_TASK_NODE_INDEX",
    "SFLOW_TASK_PROCESS_ID", "SFLOW_TASK_LOCAL_PROCESS_ID", "SFLOW_TASK_NUM_PROCESSES", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


@pytest.mark.parametrize("operator", ["srun", "srun, mpi: none"])
def test_26_the_environment_of_tasks(cluster: Cluster, way: str, operator: str) -> None:
    """Of processes that an agent starts, and of those of a job step."""
    said = " ".join(f"${name}" for name in NAMES)
    path = cluster.shared / "environment.yaml"
    path.write_text(f"""version: "0.1"
backends: {{pool: {{{POOL}, nodes: 2, gpus_per_node: 2, extra_args: [--gpus-per-node=2]}}}}
operators: {{op: {{type: {operator}}}}}
workflow:
  name: environment
  tasks:
    - name: t
      operator: op
      resources: {{nodes: {{count: 2}}, gpus: {{count: 2}}}}
      script:
        - echo {said}
        - echo ${{SFLOW_BACKEND_STEP_ID-none}} $SFLOW_REPLICA_INDEX $SFLOW_TASK_RESULT_FILE $SFLOW_WORKFLOW_RESULT_FILE
""")
    done = run(cluster, way, path, nodes=2, gres="gpu:2")
    assert done.status == 0, done.printed
    number = re.search(r"JobId=(\d+)", done.job)
    assert number is not None
    lines = done.log("t")
    both = f"{number[1]} node0,node1 2"
    step = next(line.split()[1] for line in lines if line.endswith("results.json"))
    assert step == "none" if operator == "srun" else step.isdecimal()
    assert lines == sorted(
        line
        for rank in (0, 1)
        for line in (
            f"{rank}: {step} 0 {done.directory}/t/result.json {done.directory}/results.json",
            f"{rank}: {both} node{rank} {rank} {rank} 0 2 0",
        )
    )


def two_pools(cluster: Cluster, include: str, exclude: str, partition: str = "main") -> Path:
    """Write the case of two Slurm pools, with hosts and a partition of the rig."""
    return case(
        cluster,
        "30",
        ("partition: g", "partition: main"),
        ("partition: c", f"partition: {partition}"),
        ('["n1,n2"]', f'["{include}"]'),
        ("[n9]", f"[{exclude}]"),
        ('["hostname"]', '["echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"]'),
        ("gpus_per_node: 4,", "gpus_per_node: 4, extra_args: [--gpus-per-node=4],"),
    )


def test_30_two_pools_on_the_hosts_that_they_name(cluster: Cluster, way: str) -> None:
    """In one job the backend with named hosts gets these, and the other one the rest."""
    done = run(cluster, way, two_pools(cluster, "node1,node2", "node3"), nodes=3, gres="gpu:4")
    assert done.status == 0, done.printed
    assert done.log("big") == ["0: node1 0,1,2,3", "1: node2 0,1,2,3"]
    (small,) = done.log("small")
    if way == "in a job":
        assert small.split()[0] == "node0"
    else:
        assert small.split()[0] in cluster.nodes


def test_30_a_host_that_is_excluded_is_not_asked_for(cluster: Cluster, way: str) -> None:
    path = cluster.shared / "w.yaml"
    path.write_text(f"""version: "0.1"
variables: {{BAD: "node0 node2"}}
backends:
  pool: {{{POOL}, nodes: 2, gpus_per_node: 0, exclude_nodes: ["${{{{ BAD }}}}"]}}
workflow: {{name: w, tasks: [{{name: t, script: ['echo $SLURMD_NODENAME']}}]}}
""")
    done = run(cluster, way, path, nodes=4)
    assert done.status == 0, done.printed
    assert done.log("t") == ["0: node1", "1: node3"]
    if way != "in a job":
        assert "ExcNodeList=node[0,2]" in done.job


def test_hosts_of_the_command_line_join_those_of_the_file(cluster: Cluster, way: str) -> None:
    path = cluster.shared / "w.yaml"
    path.write_text(f"""version: "0.1"
backends: {{pool: {{{POOL}, nodes: 2, gpus_per_node: 0, exclude_nodes: [node0]}}}}
workflow: {{name: w, tasks: [{{name: t, script: ['echo $SLURMD_NODENAME']}}]}}
""")
    done = run(cluster, way, path, "--include-nodes", "node3,node1", nodes=4)
    assert done.status == 0, done.printed
    assert done.log("t") == ["0: node1", "1: node3"]


def test_a_job_without_the_hosts_is_refused_before_anything_starts(cluster: Cluster) -> None:
    path = cluster.shared / "w.yaml"
    path.write_text(f"""version: "0.1"
backends: {{pool: {{{POOL}, nodes: 1, gpus_per_node: 0, include_nodes: [node3]}}}}
workflow: {{name: w, tasks: [{{name: t, script: [hostname]}}]}}
""")
    done = run(cluster, "in a job", path, nodes=2)
    assert done.status == 2
    assert "removed all nodes: node0, node1" in done.printed
    assert not (cluster.shared / "out").exists()
    fewer = run(cluster, "in a job", path, nodes=4)
    assert fewer.status == 0, fewer.printed


@pytest.mark.parametrize("way", WAYS[1:], indirect=True)
def test_extra_args_of_the_file_reach_slurm(cluster: Cluster, way: str) -> None:
    path = cluster.shared / "w.yaml"
    words = '"--cpus-per-task=${{ CPUS }}", "--comment=two-words", -c, "2", --gpus-per-node=1'
    path.write_text(f"""version: "0.1"
variables: {{CPUS: 3}}
backends: {{pool: {{{POOL}, nodes: 1, gpus_per_node: 1, extra_args: [{words}]}}}}
workflow: {{name: w, tasks: [{{name: t, script: ['echo $SLURM_JOB_ID']}}]}}
""")
    done = run(cluster, way, path)
    assert done.status == 0, done.printed
    assert "CPUs/Task=2" in done.job
    assert "Comment=two-words" in done.job
    assert re.search(r"TresPerNode=gres[:/]gpu:1", done.job)


@pytest.mark.parametrize("way", WAYS[1:], indirect=True)
@pytest.mark.parametrize(
    ("given", "memory", "more"),
    [
        ("", "MinMemoryCPU=100M", "CPUs/Task=1"),
        ("-e -c2", "MinMemoryCPU=100M", "CPUs/Task=2"),
        ("-e --mem=200", "MinMemoryNode=200M", "CPUs/Task=1"),
        ("-e --gpus-per-node=1 -e --mem-per-gpu=1G", "gpu:1", "CPUs/Task=1"),
        ("-e --exclusive", "MinMemoryCPU=100M", "OverSubscribe=NO"),
    ],
)
def test_public_07_memory_is_asked_for_in_one_way_by_slurms_own_judgement(
    cluster: Cluster, way: str, given: str, memory: str, more: str
) -> None:
    """The file asks for memory per CPU; what the command line says of memory replaces that."""
    path = cluster.shared / "memory.yaml"
    path.write_text(f"""version: "0.1"
backends: {{s: {{{POOL}, nodes: 1, gpus_per_node: 1, extra_args: ["--mem-per-cpu=100"]}}}}
workflow: {{name: w, tasks: [{{name: a, script: ['echo ran']}}]}}
""")
    done = run(cluster, way, path, given)
    assert done.status == 0, done.printed
    assert done.log("a") == ["ran"]
    assert memory in done.job
    assert more in done.job


def test_public_07_two_jobs_that_say_their_memory_share_a_node(cluster: Cluster) -> None:
    """Without an option a job takes all memory of its nodes; `-e --mem=200` leaves the rest to others."""
    other = cluster.sbatch("sleep 300", nodes=1, nodelist="node0", mem="100")
    cluster.wait_job(other, "RUNNING")
    path = cluster.shared / "memory.yaml"
    path.write_text(f"""version: "0.1"
backends: {{s: {{{POOL}, nodes: 1, gpus_per_node: 0, include_nodes: [node0]}}}}
workflow: {{name: w, tasks: [{{name: a, script: [hostname]}}]}}
""")
    done = run(cluster, "by batch", path, "-e --mem=200")
    assert done.log("a") == ["node0"]
    assert cluster.job(other).state == "RUNNING"


def test_an_artifact_of_the_nodes_need_not_exist_where_the_run_is_started(cluster: Cluster, way: str) -> None:
    """/run is each node's own."""
    for node in cluster.nodes[:1]:
        cluster.run_in_node(node, ["mkdir", "-p", "/run/model"])
    path = cluster.shared / "artifact.yaml"
    path.write_text(f"""version: "0.1"
artifacts: {{M: {{uri: "fs:///run/model"}}}}
backends: {{s: {{{POOL}, nodes: 1, gpus_per_node: 0, include_nodes: [node0]}}}}
workflow: {{name: w, tasks: [{{name: a, script: ['ls -d ${{{{ artifacts.M.path }}}}']}}]}}
""")
    done = run(cluster, way, path)
    assert done.status == 0, done.printed
    assert done.log("a") == ["/run/model"]
    cluster.run_in_node("node0", ["rmdir", "/run/model"])
    gone = run(cluster, way, path)
    assert gone.status != 0
    assert "/run/model" in gone.printed
