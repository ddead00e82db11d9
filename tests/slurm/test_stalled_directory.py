"""A job whose run directory stops answering: a stop signal ends the run within a bound, tasks first, and its output says why."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left
from tests.slurm.test_runs import workflow
from tests.stalling_fs import STALL, can_mount
from tests.support import ROOT, wait_until

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not can_mount(), reason="needs root and /dev/fuse"),
]
__all__ = ["fresh"]
NODE = "node0"


def test_r15_a_signal_ends_a_job_whose_run_directory_does_not_answer(cluster: Cluster) -> None:
    mount, backing, beat = (cluster.shared / name for name in ("stalling", "backing", "beat"))
    for directory in (mount, backing):
        directory.mkdir(exist_ok=True)
    serve = [
        "env",
        f"PYTHONPATH={ROOT}",
        *SFLOW_CTL.split()[:1],
        "-m",
        "tests.stalling_fs",
        str(mount),
        str(backing),
    ]
    started = cluster.start_in_node(NODE, serve)
    assert started.stdout is not None
    assert started.stdout.readline().strip() == "mounted"
    (daemon,) = [
        one
        for one in cluster.processes_in_node(NODE)
        if "tests.stalling_fs" in one.command and not one.command.startswith("env")
    ]
    try:
        tasks = (
            f"    - {{name: works, script: ['while :; do touch {beat}; sleep 0.1; done']}}\n"
            "    - {name: ends, script: ['sleep 3']}\n"
        )
        path = workflow(cluster, tasks, 1)
        run = f"run {path} --output-dir {mount} --run-id run --lost-after 4 --orphan-grace 3"
        number = cluster.sbatch(f"exec {SFLOW_CTL} {run}", nodes=1, nodelist=NODE, gres="gpu:4")
        wait_until(beat.exists, "the task works", 60)
        # Noted before: from then on the kernel may answer no question about a process that is just being started. That holds up
        # slurmstepd as well, which looks at all processes before it signals any: so the signal comes from here.
        ours = sorted(one.pid for one in cluster.processes_in_node(NODE) if "-m sflow_ctl run" in one.command)
        os.kill(daemon.pid, STALL)
        wait_until(lambda: any(map(is_blocked, ours)), "the controller waits for the file system", 60)
        os.kill(ours[0], signal.SIGTERM)
        said = "SIGTERM received, but the run directory has not answered for "
        deadline = time.monotonic() + 60
        # Where the kernel gave the signal to a thread that waits for the file system, too, it is the supervisor that says so.
        deaf = "SIGTERM has not reached the controller for "
        while said not in cluster.output(number) and deaf not in cluster.output(number):
            state = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[0]
            assert state == "T", f"something has continued the file system, which is in state {state}"
            assert time.monotonic() < deadline, (
                f"it does not say what it waits for:\n{cluster.output(number)}"
            )
            time.sleep(0.1)
        wait_until(lambda: not beats(beat), "its tasks have ended", 30)
        printed = cluster.output(number)
        if said in printed:
            assert "The run is ended by SIGTERM, its tasks are stopped." in printed
            assert f"run --resume {mount}/run` continues it" in printed
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
        started.send_signal(signal.SIGCONT)  # nsenter stops with its child
    job = cluster.wait_job(number, within_s=90)
    assert job.exit_code in ("143:0", "0:15"), cluster.output(number)
    wait_until(lambda: not ours_left(cluster), "nothing is left", 60)
    daemon.kill()
    started.communicate(timeout=30)


def is_blocked(pid: int) -> bool:
    """Whether the kernel has a process wait for the daemon."""
    return Path(f"/proc/{pid}/wchan").read_text() == "request_wait_answer"


def beats(beat: Path) -> bool:
    """Whether the task still works."""
    before = beat.stat().st_mtime_ns
    until = time.monotonic() + 0.5
    wait_until(lambda: time.monotonic() > until, "half a second", 30)
    return beat.stat().st_mtime_ns != before
