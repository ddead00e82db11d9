"""A few short rounds of chaos by fixed seeds: `python -m tests.faults.chaos` runs as many as wanted."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.chaos import local_site
from tests.faults.chaos.schedule import LOCAL_KINDS, decide
from tests.stalling_fs import StallingFs, can_mount
from tests.support import ROOT

SEEDS = (2, 8, 17, 45)


def test_a_seed_decides_the_whole_round() -> None:
    assert decide(7) == decide(7)
    assert decide(7) != decide(8)
    kinds = {fault.kind for seed in range(200) for faults in decide(seed).faults for fault in faults}
    assert kinds == set(LOCAL_KINDS)


@pytest.mark.skipif(not can_mount(), reason="needs root and /dev/fuse")
def test_a_disk_that_two_faults_stall_at_once_answers_when_both_are_over(tmp_path: Path) -> None:
    disk = StallingFs(tmp_path / "mount", tmp_path / "backing")
    try:
        for _ in range(3):
            disk.stall()
            disk.stall()
            disk.resume()
            disk.resume()
            subprocess.run(["ls", disk.path], check=True, timeout=30)
    finally:
        disk.close()


@pytest.mark.skipif(not local_site.can_enter(), reason="needs namespaces of processes, mounts and networks")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_short_round_of_chaos_violates_nothing(tmp_path: Path, seed: int) -> None:
    arguments = [f"--seed={seed}", "--rounds=1", "--short", "--keep", f"--directory={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.chaos", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ended with" in done.stdout
