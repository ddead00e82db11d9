"""The rig does to Slurm what its methods say: later tests rely on it."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.slurm.counted_srun import CountedSrun
from tests.slurm.record import PREFIX, Record, end_ownerless
from tests.slurm.rig import Cluster
from tests.slurm.settings import HEAD, Settings, address
from tests.support import ROOT, is_alive, wait_until

pytestmark = pytest.mark.slurm

ON_ALL_NODES = "srun sh -c 'echo $SLURM_PROCID $(hostname)' | sort -n"
STUBBORN = """trap '' TERM
srun --overlap sh -c "trap '' TERM; sleep 1001 & sleep 1002" &
setsid sleep 1003 &
echo begun ${SLURM_RESTART_COUNT:-0}
sleep 1004
sleep 1005
"""
POLITE = "echo begun ${SLURM_RESTART_COUNT:-0}; exec sleep 1000"
CONNECTED, REFUSED, VANISHED = 0, 1, 124
SLURMD_PORT = 6818
OWNER = """
import signal, sys
from pathlib import Path
from tests.slurm.rig import Cluster
from tests.slurm.settings import Settings
cluster = Cluster.start(Settings(nodes=2), Path(sys.argv[1]))
cluster.sbatch("srun sleep 1000", nodes=2)
print("up", flush=True)
signal.pause()
"""
SESSION = """
import signal
from pathlib import Path

def test_that_does_not_end(cluster):
    Path("directory").write_text(str(cluster.directory))
    signal.pause()
"""


@pytest.fixture
def other_directory(cluster: Cluster) -> Path:
    """For a cluster beside the shared one, which makes sure that one can be started here."""
    return Path(tempfile.mkdtemp(prefix=PREFIX))


def connect(cluster: Cluster, node: str, to: str, port: int = SLURMD_PORT) -> int:
    """Return CONNECTED, REFUSED, or VANISHED if there is no answer within a second."""
    attempt = f"exec 2>/dev/null 3<>/dev/tcp/{to}/{port}"
    return cluster.run_in_node(node, ["timeout", "1", "bash", "-c", attempt]).returncode


def nothing_runs(cluster: Cluster, *nodes: str) -> None:
    """Fail with the remaining processes on them."""

    def left() -> list[str]:
        return [process.command for node in nodes for process in cluster.processes_in_node(node)]

    wait_until(lambda: not left(), f"nothing runs on {nodes}: {left()}")


def begun(cluster: Cluster, job: int, times: int = 1) -> None:
    """Wait until the script has printed this so many times."""
    cluster.wait_job(job, "RUNNING")
    wait_until(lambda: cluster.output(job).count("begun") == times, f"{cluster.output(job)!r} says begun")


def test_a_job_gets_all_nodes_in_order(cluster: Cluster) -> None:
    job = cluster.wait_job(cluster.sbatch(ON_ALL_NODES, nodes=4))
    assert (job.state, job.node_list, job.batch_host) == ("COMPLETED", "node[0-3]", "node0")
    assert cluster.output(job.number).splitlines() == [f"{index} node{index}" for index in range(4)]


def test_sixteen_nodes_are_up_soon_and_leave_nothing(other_directory: Path) -> None:
    began = time.monotonic()
    cluster = Cluster.start(Settings(nodes=16, gpus=0), other_directory)
    try:
        assert time.monotonic() - began < 10
        job = cluster.wait_job(cluster.sbatch(ON_ALL_NODES, nodes=16))
        assert cluster.output(job.number).splitlines() == [f"{index} node{index}" for index in range(16)]
        known = Record.read(other_directory)
        assert known is not None
    finally:
        cluster.end()
    assert not other_directory.exists()
    assert known.keeper is not None
    assert not any(process.is_alive for process in (known.keeper, *known.machines.values()))


def test_nodes_have_their_own_loopback_and_shared_files(cluster: Cluster) -> None:
    serve = (
        "import socket; s = socket.create_server(('127.0.0.1', 7000)); print('up', flush=True); s.accept()"
    )
    server = cluster.start_in_node("node0", [sys.executable, "-c", serve])
    assert server.stdout is not None
    assert server.stdout.readline() == "up\n"
    assert connect(cluster, "node1", "127.0.0.1", 7000) == REFUSED
    assert connect(cluster, "node1", "node0", 7000) == REFUSED
    assert connect(cluster, "node0", "127.0.0.1", 7000) == CONNECTED
    assert server.wait(timeout=10) == 0
    cluster.run_in_node("node0", ["sh", "-c", "echo there > file; echo mine > /dev/shm/file"])
    read = cluster.run_in_node("node1", ["sh", "-c", "cat file; ls /dev/shm/file"])
    assert read.stdout == "there\n"  # podman keeps a file of its own there


def test_this_checkout_runs_on_a_node(cluster: Cluster) -> None:
    program = Path(sys.executable).with_name("sflow-ctl")
    assert "run" in cluster.run_in_node("node0", [program, "--help"]).stdout


def test_gpus_are_granted(cluster: Cluster) -> None:
    job = cluster.sbatch("echo gpus=$CUDA_VISIBLE_DEVICES; sleep 1000", gres="gpu:3")
    wait_until(lambda: "gpus=" in cluster.output(job), "the first job has printed")
    assert cluster.output(job) == "gpus=0,1,2\n"
    other = cluster.srun(["printenv", "CUDA_VISIBLE_DEVICES"], gres="gpu:1", nodelist="node0")
    assert other.stdout == "3\n"


def test_salloc_gives_an_environment_to_a_command_on_the_head(cluster: Cluster) -> None:
    done = cluster.salloc(["sh", "-c", "hostname; echo $SLURM_JOB_NODELIST; srun hostname"], nodes=2)
    assert sorted(done.stdout.split()) == ["head", "node0", "node1", "node[0-1]"]


def test_a_cut_node_is_silent_until_it_is_healed(cluster: Cluster) -> None:
    assert connect(cluster, "node1", "node0") == CONNECTED
    cluster.cut("node0")
    assert connect(cluster, "node1", "node0") == VANISHED
    assert connect(cluster, "node0", "node1") == VANISHED
    assert connect(cluster, "node1", "node2") == CONNECTED
    cluster.heal("node0")
    assert connect(cluster, "node1", "node0") == CONNECTED


def test_lost_packets_are_of_one_node(cluster: Cluster) -> None:
    cluster.loss("node0", 100)
    assert connect(cluster, "node1", "node0") == VANISHED
    assert connect(cluster, "node1", "node2") == CONNECTED
    assert connect(cluster, "node0", "127.0.0.1") == CONNECTED
    cluster.heal("node0")
    assert connect(cluster, "node1", "node0") == CONNECTED


def test_a_slow_link_takes_its_time(cluster: Cluster) -> None:
    receive = (
        "import socket; s = socket.create_server(('', 7001)); print('up', flush=True)\n"
        "c = s.accept()[0]; n = 0\n"
        "while got := c.recv(65536): n += len(got)\n"
        "print(n)"
    )
    receiver = cluster.start_in_node("node0", [sys.executable, "-c", receive])
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "up\n"
    cluster.slow("node0", kbit_per_s=4000, latency_ms=400)
    began = time.monotonic()
    cluster.run_in_node("node1", ["bash", "-c", "head -c 500000 /dev/zero > /dev/tcp/node0/7001"])
    assert receiver.stdout.read() == "500000\n"
    assert time.monotonic() - began > 0.8  # 4 Mbit in 4 Mbit/s


def test_a_black_hole_drops_packets_of_other_machines(cluster: Cluster) -> None:
    hole = cluster.add_black_hole_address("node0")
    assert hole in cluster.run_in_node("node0", ["ip", "-4", "addr"]).stdout
    assert connect(cluster, "node1", hole) == VANISHED
    assert connect(cluster, "node0", hole) == CONNECTED
    assert connect(cluster, "node1", address("node0")) == CONNECTED
    cluster.heal("node0")
    assert hole not in cluster.run_in_node("node0", ["ip", "-4", "addr"]).stdout


def test_a_node_without_slurmd_is_down_and_its_job_requeued(cluster: Cluster) -> None:
    job = cluster.sbatch(STUBBORN, nodes=2, nodelist="node[1-2]")
    begun(cluster, job)
    cluster.kill_slurmd("node1")
    cluster.wait_node("node1", "down", "down*")
    assert cluster.wait_job(job, "PENDING").restarts == 1
    assert "sleep 1004" in [process.command for process in cluster.processes_in_node("node1")]
    cluster.restore()
    nothing_runs(cluster, *cluster.nodes)


def test_a_node_without_power_has_nothing_but_its_disk(cluster: Cluster) -> None:
    scratch = cluster.directory / "scratch"
    disk = cluster.make_own_directory("node2", scratch)
    cluster.run_in_node("node2", ["sh", "-c", f"echo kept > {scratch}/file; echo lost > /dev/shm/file"])
    assert not list(scratch.iterdir())  # here, as on any other node
    job = cluster.sbatch(STUBBORN, nodelist="node2", requeue=True)
    begun(cluster, job)
    pids = [process.pid for process in cluster.processes_in_node("node2")]
    assert len(pids) > 3
    cluster.power_off("node2")
    cluster.mark_down("node2")
    assert cluster.wait_job(job, "PENDING").restarts == 1
    assert not [pid for pid in pids if is_alive(pid)]
    assert cluster.processes_in_node("node2") == []
    assert (disk / "file").read_text() == "kept\n"
    cluster.power_on("node2")
    read = cluster.run_in_node("node2", ["sh", "-c", f"cat {scratch}/file; ls /dev/shm"])
    assert read.stdout == "kept\n"


def test_slurmctld_comes_back_and_knows_the_job(cluster: Cluster) -> None:
    job = cluster.sbatch("srun sleep 1000")
    cluster.wait_job(job, "RUNNING")
    wait_until(lambda: cluster.is_saved(job), "slurmctld has saved the job")
    cluster.kill_slurmctld()
    assert cluster.run_in_node(HEAD, ["squeue"]).returncode != 0
    cluster.start_slurmctld()
    assert cluster.job(job).state == "RUNNING"


def test_srun_calls_are_counted(cluster: Cluster, tmp_path: Path) -> None:
    counted = CountedSrun(tmp_path / "counted")
    path = f"export PATH={counted.directory}:$PATH"
    script = f"{path}\nsrun --overlap echo 'a  b' ''\nsrun --nodes=1 --ntasks=1 sh -c 'srun --version'\n"
    job = cluster.wait_job(cluster.sbatch(script, nodes=1))
    assert job.state == "COMPLETED"
    assert counted.calls() == [
        ["--overlap", "echo", "a  b", ""],
        ["--nodes=1", "--ntasks=1", "sh", "-c", "srun --version"],
        ["--version"],
    ]


def test_a_requeued_job_knows_it(cluster: Cluster) -> None:
    job = cluster.sbatch(POLITE)
    begun(cluster, job)
    cluster.scontrol("requeue", str(job))
    begun(cluster, job, times=2)
    assert re.findall("begun.*", cluster.output(job)) == ["begun 0", "begun 1"]
    assert cluster.job(job).restarts == 1


def test_work_of_low_priority_is_requeued(cluster: Cluster) -> None:
    low = cluster.sbatch(POLITE, nodes=4, exclusive=True, partition="requeued")
    begun(cluster, low)
    high = cluster.sbatch("hostname", nodes=4, exclusive=True)
    assert cluster.wait_job(high).state == "COMPLETED"
    begun(cluster, low, times=2)
    assert cluster.job(low).restarts == 1
    assert "DUE TO PREEMPTION" in cluster.output(low)


def test_work_of_low_priority_is_cancelled_after_its_grace(cluster: Cluster) -> None:
    notes = "trap 'echo warned at $(date +%s.%N)' TERM\necho begun\nwhile :; do sleep 0.1; date +%s.%N; done"
    low = cluster.sbatch(notes, nodes=4, exclusive=True, partition="cancelled")
    begun(cluster, low)
    high = cluster.sbatch("hostname", nodes=4, exclusive=True)
    assert cluster.wait_job(low).state == "PREEMPTED"
    assert cluster.wait_job(high).state == "COMPLETED"
    printed = cluster.output(low)
    warned = float(printed.partition("warned at ")[2].split()[0])
    last = float(re.findall(r"^[\d.]+$", printed, re.MULTILINE)[-1])
    assert last - warned > cluster.settings.grace_s - 1


@pytest.mark.skipif(shutil.which("mpicc.mpich") is None, reason="mpicc.mpich is not installed")
def test_mpi_works_across_nodes(cluster: Cluster, tmp_path: Path) -> None:
    program = tmp_path / "hello_mpi"
    subprocess.run(["mpicc.mpich", "-o", program, Path(__file__).with_name("hello_mpi.c")], check=True)
    done = cluster.srun([str(program)], nodes=2, ntasks_per_node=2, mpi="pmi2")
    assert sorted(done.stdout.splitlines()) == [
        f"rank {rank} of 4 on node{rank // 2}, sum 10" for rank in range(4)
    ], done.stderr


def test_scancel_leaves_nothing(cluster: Cluster) -> None:
    job = cluster.sbatch(STUBBORN, nodes=2)
    begun(cluster, job)
    wait_until(lambda: len(cluster.processes_in_node("node1")) > 2, "the step has started")
    cluster.scancel(job)
    assert cluster.wait_job(job).state == "CANCELLED"
    nothing_runs(cluster, *cluster.nodes)


def start_owner(directory: Path) -> subprocess.Popen[str]:
    """Start a process whose cluster is up."""
    argv = [sys.executable, "-c", OWNER, str(directory)]
    owner = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    owner.stdout.close()
    return owner


def kept(directory: Path) -> list[int]:
    """The pids of a cluster's first processes, as it has recorded them."""
    known = Record.read(directory)
    assert known is not None
    assert known.keeper is not None
    return [process.pid for process in (known.keeper, *known.machines.values())]


def test_a_cluster_does_not_outlive_its_killed_owner(other_directory: Path) -> None:
    owner = start_owner(other_directory)
    pids = kept(other_directory)
    owner.kill()
    owner.wait()
    wait_until(lambda: not other_directory.exists(), "the files are gone")
    wait_until(lambda: not [pid for pid in pids if is_alive(pid)], "the processes are gone")


def test_a_killed_cluster_is_cleared_at_the_next_start(cluster: Cluster, other_directory: Path) -> None:
    owner = start_owner(other_directory)
    pids = kept(other_directory)
    assert other_directory not in end_ownerless()
    os.kill(pids[0], signal.SIGKILL)
    owner.kill()
    owner.wait()
    wait_until(lambda: not [pid for pid in pids if is_alive(pid)], "the kernel has ended the rest")
    assert other_directory.exists()
    assert end_ownerless() == [other_directory]
    assert not other_directory.exists()
    assert cluster.wait_job(cluster.sbatch("true")).state == "COMPLETED"


def test_an_interrupted_session_ends_its_cluster(tmp_path: Path, cluster: Cluster) -> None:
    (tmp_path / "test_session.py").write_text(SESSION)
    pytest_argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.slurm.conftest", "-c", os.devnull]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    session = subprocess.Popen(
        [*pytest_argv, "--rootdir", tmp_path, "test_session.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    told = tmp_path / "directory"
    wait_until(lambda: told.exists() and told.read_text(), "the session's cluster is up")
    directory = Path(told.read_text())
    pids = kept(directory)
    session.send_signal(signal.SIGINT)
    printed, _ = session.communicate(timeout=30)
    assert "KeyboardInterrupt" in printed
    assert not directory.exists()
    assert not [pid for pid in pids if is_alive(pid)]


def test_restoring_a_healthy_cluster_touches_no_daemon(cluster: Cluster) -> None:
    every = ["ps", "-A", "-o", "pid=,stat=,comm="]

    def daemons() -> list[list[str]]:
        machines = (HEAD, *cluster.nodes)
        lines = [
            line for machine in machines for line in cluster.run_in_node(machine, every).stdout.splitlines()
        ]
        return [line.split() for line in lines if line.split()[2] not in ("ps", "sleep")]

    before = [(pid, name) for pid, _, name in daemons()]
    assert [name for _, name in before].count("slurmd") == len(cluster.nodes)
    cluster.restore()
    assert [(pid, name) for pid, state, name in daemons() if not state.startswith("Z")] == before


def test_everything_is_whole_again_after_the_worst(cluster: Cluster) -> None:
    for node, fault in zip(cluster.nodes, itertools.cycle((cluster.cut, cluster.power_off)), strict=False):
        fault(node)
    cluster.kill_slurmctld()
    cluster.restore()
    job = cluster.wait_job(cluster.sbatch(ON_ALL_NODES, nodes=4))
    assert cluster.output(job.number).splitlines() == [f"{index} node{index}" for index in range(4)]
