"""Every benchmark works: each runs once, as small as it can be, and prints its table. No time is asserted."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOT_PROGRAMS = {"__init__", "measure", "reference"}
"""`reference` compares releases of another program, from the network: `tests/conformance` has that."""
SLURM = "slurm"
"""Needs root and a Slurm; it is only imported here."""
MODULES = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if path.stem not in NOT_PROGRAMS)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "SFLOW_BENCH_TINY": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("module", [one for one in MODULES if one != SLURM])
def test_a_benchmark_runs_and_prints_medians(module: str) -> None:
    if module in ("chain", "before_after") and shutil.which("make") is None:
        pytest.skip("make is not installed")
    other = [str(Path(sys.executable).with_name("sflow-ctl"))] if module == "before_after" else []
    done = run("-m", f"bench.{module}", *other)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert records
    for record in records:
        assert record["median"]
        assert all(isinstance(value, float) for value in record["median"].values())


def test_the_benchmark_on_slurm_can_be_imported() -> None:
    done = run("-c", f"import bench.{SLURM}")
    assert done.returncode == 0, done.stderr
