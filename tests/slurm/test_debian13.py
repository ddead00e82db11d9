"""A few tests of real jobs on Slurm 24.11 and Python 3.13, in a root file system of Debian 13 that is made once and kept."""

import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

SMOKE = Path(__file__).with_name("debian13") / "smoke"
TESTS = (
    "tests/slurm/test_launch.py",
    "tests/slurm/test_gpus.py",
    "tests/slurm/test_batch.py",
    "tests/slurm/test_step_lines.py",
    "tests/slurm/test_steps.py::test_probes_outputs_retries_and_exits_are_those_of_any_task",
    "tests/slurm/test_steps.py::test_settings_of_the_job_and_of_the_agents_step_do_not_reach_the_inner_srun",
    "tests/slurm/test_step_ends.py::test_clusters_f4_every_way_in_which_a_step_is_stopped",
    "tests/slurm/test_step_ends.py::test_clusters_f12_f13_a_cancelled_job_runs_what_is_for_its_end_and_says_so",
    "tests/slurm/test_ends.py::test_p8_an_element_of_an_array_has_its_own_end",
    "tests/slurm/test_rest_of_a_run.py::test_clusters_t3_a_killed_daemon_of_the_agents_step_leaves_the_run_unharmed",
    "tests/slurm/test_jobs_that_change.py::test_public_16_a_run_that_a_step_starts_several_times_is_one_run",
    "tests/slurm/test_pools.py::test_26_the_environment_of_tasks",
    "tests/slurm/test_pools.py::test_30_two_pools_on_the_hosts_that_they_name",
    "tests/slurm/test_pools.py::test_extra_args_of_the_file_reach_slurm",
    "tests/slurm/test_pools.py::test_public_07_memory_is_asked_for_in_one_way_by_slurms_own_judgement",
)
"""What differs between 22.05 and 24.11. P8 follows F13, for which Slurm reads its configuration anew, in new daemons."""
ROOT_WITHIN_S, TESTS_WITHIN_S = 170.0, 300.0
"""A root took 100 s on two idle CPUs, and is kept; the tests took 110 s."""
MIRROR_WITHIN_S = 5.0


def kept_root() -> Path:
    """Where the root file system is, or will be."""
    chosen = os.environ.get("SFLOW_DEBIAN13")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(cache) / "sflow-ctl" / "debian13"


def mirror() -> str | None:
    """This machine's source of Debian packages, from which `make-root` takes them."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return next((one for one in sorted(set(listed)) if "security" not in one), None)


def reason_for_none() -> str | None:
    """Why there can be no such root file system here."""
    if os.geteuid() != 0:
        return "needs root"
    if Path("/etc/debian_version").exists() and Path("/etc/debian_version").read_text().startswith("13"):
        return "this is Debian 13: the other tests run on its Slurm"
    if (kept_root() / "usr" / "bin" / "python3").exists():
        return None
    if shutil.which("apt-get") is None or shutil.which("debootstrap") is None:
        return "needs apt-get and debootstrap (`python3 dev.py test` installs it)"
    source = mirror()
    if source is None:
        return "no source of Debian packages is configured"
    try:
        with urllib.request.urlopen(f"{source.rstrip('/')}/dists/trixie/Release", timeout=MIRROR_WITHIN_S):
            return None
    except (OSError, ValueError) as error:
        return f"Debian 13 cannot be reached: {error}"


def finished(command: list[str | Path], within_s: float) -> subprocess.CompletedProcess[str] | None:
    """Run a command to its end; None if that takes too long, and nothing of it is left then."""
    environment = {**os.environ, "SFLOW_DEBIAN13": str(kept_root())}
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None
    return subprocess.CompletedProcess(command, process.returncode, output)


def test_real_jobs_on_slurm_24_11() -> None:
    reason = reason_for_none()
    if reason is not None:
        pytest.skip(reason)
    if not kept_root().exists():
        made = finished([SMOKE.with_name("make-root"), kept_root()], ROOT_WITHIN_S)
        if made is None:
            pytest.skip(f"the root file system could not be made within {ROOT_WITHIN_S:g} s")
        assert made.returncode == 0, made.stdout
    done = finished([SMOKE, *TESTS], TESTS_WITHIN_S)
    assert done is not None, f"not within {TESTS_WITHIN_S:g} s"
    assert done.returncode == 0, done.stdout[-8000:]
    last = done.stdout.strip().splitlines()[-1]
    assert "slurm-client\t24.11" in done.stdout, done.stdout
    assert " passed" in last, done.stdout
    assert "skipped" not in last, done.stdout
