"""Features that only a real job step has, started by an agent.

With the options of the format, and otherwise like any other task.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.counted_srun import CountedSrun
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

HEADER = Path("/usr/include/slurm/spank.h")
HEAD = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 2, gpus_per_node: 4}}
operators:
  box: {type: srun, container_image: "reg.io/team/image:1", container_mounts: ["/data:/data:ro"], container_workdir: /usr}
  one: {type: srun, ntasks: 1}
workflow:
  name: w
  tasks:
"""


@pytest.fixture
def plugin(cluster: Cluster, tmp_path: Path) -> Iterator[None]:
    """Slurm with the options of the container plugin's stand-in."""
    if not HEADER.exists():
        pytest.skip("libslurm-dev is not installed")
    source = Path(__file__).with_name("container_plugin.c")
    library = cluster.shared / "container_plugin.so"
    compiler = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", str(source), "-o", str(library)]
    subprocess.run(compiler, check=True, capture_output=True)
    configuration = cluster.directory / "etc" / "plugstack.conf"
    configuration.write_text(f"required {library}\n")
    yield
    configuration.unlink()


def submit(
    cluster: Cluster, tasks: str, counted: CountedSrun, run: str = "", **options: str | int | bool
) -> int:
    """A job on two nodes that runs these tasks; every srun of it is noted."""
    path = cluster.shared / "steps.yaml"
    path.write_text(HEAD + tasks)
    command = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run {run}"
    script = f"export PATH={counted.directory}:$PATH\n{command}"
    return cluster.sbatch(script, nodes=2, gres="gpu:4", **options)


def finished(cluster: Cluster, number: int, state: str = "COMPLETED") -> None:
    job = cluster.wait_job(number, within_s=90)
    assert job.state == state, cluster.output(number)


@pytest.fixture
def counted(cluster: Cluster, tmp_path: Path) -> CountedSrun:
    directory = cluster.shared / tmp_path.name
    return CountedSrun(directory)


def log_of(cluster: Cluster, task: str) -> str:
    return (cluster.shared / "out" / "run" / task / f"{task}.log").read_text()


def test_the_formats_own_command_line_starts_a_container_step(
    cluster: Cluster, plugin: None, counted: CountedSrun
) -> None:
    """The format, 6.4: these options, in this order; and they reach the tasks."""
    script = "echo $PWD; env | grep ^SPANK_"
    number = submit(
        cluster, f"    - {{name: c, operator: box, script: ['{script}']}}\n", counted, exclusive=True
    )
    finished(cluster, number)
    agents, step = counted.calls()
    assert "sflow_agent" in agents
    out = f"{cluster.shared}/out"
    mounts = [cluster.shared, out, f"{out}/run", f"{out}/run/c"]
    joined = ",".join(["/data:/data:ro", *(f"{path}:{path}:rw" for path in mounts)])
    expected = (
        f"--jobid {number} --nodes 2 --nodelist node0,node1 --job-name c --export ALL --label --overlap"
    )
    expected += " --container-image reg.io/team/image:1 --no-container-mount-home --container-writable"
    expected += f" --container-mounts {joined} --container-workdir /usr"
    assert step[:-1] == [*expected.split(), "bash", "-c"]
    assert step[-1].endswith(f"; {script}")
    lines = sorted(log_of(cluster, "c").splitlines())
    seen = {
        "SPANK_CONTAINER_IMAGE=reg.io/team/image:1",
        "SPANK_CONTAINER_NO_MOUNT_HOME=1",
        "SPANK_CONTAINER_WRITABLE=1",
        f"SPANK_CONTAINER_MOUNTS={joined}",
        "SPANK_CONTAINER_WORKDIR=/usr",
        "/usr",
    }
    assert lines == sorted(f"{rank}: {line}" for rank in range(2) for line in seen)


def test_a_named_container_and_options_in_extra_args(
    cluster: Cluster, plugin: None, counted: CountedSrun
) -> None:
    operator = (
        "{name: box, container_image: '', container_name: warm, container_mount_home: true, extra_args: "
    )
    operator += "[--container-image=reg.io/team/image:2, --container-mounts=/more:/more], ntasks: 1}"
    tasks = f"    - {{name: c, operator: {operator}, script: ['env | grep ^SPANK_']}}\n"
    number = submit(cluster, tasks, counted)
    finished(cluster, number)
    log = log_of(cluster, "c")
    assert "SPANK_CONTAINER_IMAGE=reg.io/team/image:2\n" in log
    assert "SPANK_CONTAINER_NAME=warm\n" in log
    assert "SPANK_CONTAINER_MOUNT_HOME=1\n" in log
    assert "NO_MOUNT_HOME" not in log
    assert "SPANK_CONTAINER_MOUNTS=/data:/data:ro,/more:/more," in log


def test_settings_of_the_job_and_of_the_agents_step_do_not_reach_the_inner_srun(
    cluster: Cluster, plugin: None, counted: CountedSrun
) -> None:
    script = "echo $SLURM_PROCID $SLURM_NTASKS $SLURM_NNODES $(hostname)"
    number = submit(
        cluster,
        f"    - {{name: c, operator: box, script: ['{script}']}}\n",
        counted,
        ntasks=4,
        ntasks_per_node=2,
        cpus_per_task=2,
        mem_per_cpu=100,
        distribution="plane=2",
    )
    finished(cluster, number)
    assert sorted(log_of(cluster, "c").splitlines()) == [f"{n}: {n} 2 2 node{n}" for n in range(2)]


def test_a_step_shows_the_gpus_of_its_task_only(cluster: Cluster, plugin: None, counted: CountedSrun) -> None:
    """Slurm shows every step of a job with GPUs all of them. Some of these wait for room, and get theirs later."""
    tasks = (
        "    - {name: g, operator: {name: box, ntasks: 1}, replicas: {count: 6}, resources: {gpus: {count: 2}},\n"
        "       script: ['echo $(hostname) $CUDA_VISIBLE_DEVICES']}\n"
    )
    number = submit(cluster, tasks, counted)
    finished(cluster, number)
    seen = [log_of(cluster, f"g_{n}").split() for n in range(6)]
    halves = [["node0", "0,1"], ["node0", "2,3"], ["node1", "0,1"], ["node1", "2,3"]]
    assert all(one in halves for one in seen), seen  # in any order: nodes are used as their agents call
    assert {gpus for _, gpus in seen} == {"0,1", "2,3"}


def test_probes_outputs_retries_and_exits_are_those_of_any_task(
    cluster: Cluster, plugin: None, counted: CountedSrun
) -> None:
    tasks = """    - name: server
      operator: {name: box, ntasks: 1}
      script: ['cd /tmp; exec python3 -u -m http.server 8321']
      probes: {readiness: {tcp_port: {port: 8321}}}
    - name: measured
      operator: box
      depends_on: [server]
      retries: {count: 1, interval: 0}
      script: ['echo rate = $SLURM_PROCID.5; [ $SFLOW_ATTEMPT = 2 ] || exit 4']
      outputs: [{pattern: 'rate = {rate:f}'}]
    - {name: last, operator: one, depends_on: [measured], script: ['echo sum ${{ task.measured.outputs.rate | sum }}']}
"""
    number = submit(cluster, tasks, counted)
    finished(cluster, number)
    assert log_of(cluster, "last") == "sum 2.0\n"
    loaded = summary(cluster)["tasks"]
    assert isinstance(loaded, list)
    attempts = {task["name"]: task["attempts"] for task in loaded}
    assert attempts == {"server": 1, "measured": 2, "last": 1}
    first = cluster.shared / "out" / "run" / "measured" / "measured.attempt-1.log"
    assert "Exited with exit code 4" in first.read_text()


def test_a_step_that_fails_is_the_cause_with_its_highest_status(
    cluster: Cluster, plugin: None, counted: CountedSrun
) -> None:
    number = submit(
        cluster, "    - {name: c, operator: box, script: ['exit $((SLURM_PROCID + 6))']}\n", counted
    )
    finished(cluster, number, "FAILED")
    printed = cluster.output(number)
    assert "task c failed: rank " in printed
    assert "(exit status 7)" in printed


@pytest.mark.parametrize("how", ["failure elsewhere", "the service is not needed any more", "scancel"])
def test_nothing_of_a_stopped_step_is_left_on_any_node(
    how: str, cluster: Cluster, plugin: None, counted: CountedSrun
) -> None:
    """Not even what ignores SIGTERM, in a session of its own."""
    deaf = 'trap "" TERM; setsid bash -c "trap \\"\\" TERM; echo up; sleep 7777; :" & sleep 7777; :'
    status = {
        "failure elsewhere": "exit 3",
        "the service is not needed any more": "true",
        "scancel": "sleep 7777",
    }
    tasks = (
        "    - name: deaf\n      operator: box\n      probes: {readiness: {log_watch: {regex_pattern: up, match_count: 2}}}\n"
        f"      script: ['{deaf}']\n"
        f"    - {{name: other, operator: one, depends_on: [deaf], script: ['{status[how]}']}}\n"
    )
    number = submit(cluster, tasks, counted)
    if how == "scancel":
        log = cluster.shared / "out" / "run" / "deaf" / "deaf.log"
        wait_until(lambda: log.exists() and log.read_text().count("up") == 2, "the step runs", 60)
        assert {one.split()[0] for one in ours_left(cluster) if "7777" in one} == {"node0", "node1"}
        cluster.scancel(number)
    states = {"failure elsewhere": "FAILED", "scancel": "CANCELLED"}
    job = cluster.wait_job(number, within_s=90)
    assert job.state == states.get(how, "COMPLETED"), cluster.output(number)
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)
