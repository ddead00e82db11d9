"""Every benchmark works: each runs once, as small as it can be, and prints its table. No time is asserted."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOT_PROGRAMS = {"__init__", "measure", "reference", "peers", "dflow"}
"""The last three run releases of other programs, which are installed from the network: see below, and `tests/conformance`."""
SLURM = "slurm"
"""Needs root and a Slurm; it is only imported here."""
MODULES = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if path.stem not in NOT_PROGRAMS)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "SFLOW_BENCH_TINY": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120
    )


def test_the_comparison_with_sflow_runs_and_prints_medians() -> None:
    if not (os.environ.get("SFLOW_REFERENCE") or os.environ.get("CI")):
        pytest.skip("set SFLOW_REFERENCE=1 to run sflow, which is installed for it")
    done = run("-m", "bench.peers")
    if done.returncode == 3:
        pytest.skip(done.stderr)
    check(done)
    assert done.stdout.count("sflow / sflow-ctl, median of the rounds: ") == 5


def test_the_comparison_with_dflow_finds_the_same_results() -> None:
    if not (os.environ.get("SFLOW_REFERENCE") or os.environ.get("CI")):
        pytest.skip("set SFLOW_REFERENCE=1 to run dflow, which is installed for it")
    done = run("-m", "bench.dflow")
    if done.returncode == 3:
        pytest.skip(done.stderr)
    check(done)
    assert "results: the same" in done.stdout


@pytest.mark.parametrize("module", [one for one in MODULES if one != SLURM])
def test_a_benchmark_runs_and_prints_medians(module: str) -> None:
    if module in ("chain", "before_after") and shutil.which("make") is None:
        pytest.skip("make is not installed")
    other = [str(Path(sys.executable).with_name("sflow-ctl"))] if module == "before_after" else []
    check(run("-m", f"bench.{module}", *other))


def check(done: "subprocess.CompletedProcess[str]") -> None:
    """Assert that a benchmark has printed the medians of what it measured."""
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert records
    for record in records:
        assert record["median"]
        assert all(isinstance(value, float) for value in record["median"].values())


def test_the_benchmark_on_slurm_can_be_imported() -> None:
    done = run("-c", f"import bench.{SLURM}")
    assert done.returncode == 0, done.stderr
