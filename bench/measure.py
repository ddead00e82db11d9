"""What the benchmarks share: repetition, medians, the command line as a process, a table and a JSON line.

Machines here are noisy: what is compared is measured in turn, in one run, and medians are given.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

TINY = "SFLOW_BENCH_TINY" in os.environ
"""Run everything once and small: shows that a benchmark works, measures nothing. A test sets it."""
SFLOW_CTL = [sys.executable, "-m", "sflow_ctl"]
SCRIPT = Path(sys.executable).with_name("sflow-ctl")
if SCRIPT.exists():
    SFLOW_CTL = [str(SCRIPT)]


T = TypeVar("T")


def sized(full: T, tiny: T) -> T:
    """Return a size for measuring, or for showing that the benchmark works."""
    return tiny if TINY else full


def interleaved(candidates: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """Each candidate's results, measured in turn. One round before does not count: it warms the caches."""
    results: dict[str, list[float]] = {name: [] for name in candidates}
    for number in sized(range(repetitions + 1), range(1, 2)):
        for name, measure in candidates.items():
            value = measure()
            if number:
                results[name].append(value)
    return results


def seconds(
    command: Sequence[str | Path], cwd: Path | None = None, stdout: int = subprocess.DEVNULL
) -> float:
    """Wall time of a whole process that must succeed."""
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, check=False
    )
    elapsed = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return elapsed


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is removed afterwards. Runs are remembered in it, not in the registry of this user's runs."""
    path = Path(tempfile.mkdtemp(prefix="sflow-bench-"))
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(path / "state")
    try:
        yield path
    finally:
        del os.environ["XDG_STATE_HOME"]
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before
        shutil.rmtree(path, ignore_errors=True)


def run_workflow(
    text: str, cwd: Path, *options: str, command: Sequence[str] = SFLOW_CTL
) -> tuple[float, Path]:
    """(seconds of the whole process, run directory) of a workflow given as text."""
    file = cwd / "workflow.yaml"
    file.write_text(text)
    # A new place each time: deleting thousands of directories keeps the file system busy well into the next run.
    output = Path(tempfile.mkdtemp(prefix="out-", dir=cwd))
    elapsed = seconds([*command, "run", file, "--output-dir", output, "--run-id", "r", *options], cwd)
    return elapsed, output / "r"


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def report(
    name: str, unit: str, results: Mapping[str, Sequence[float]], notes: Mapping[str, object] | None = None
) -> None:
    """A table for people and a line of JSON for programs."""
    width = max(len(key) for key in results)
    print(f"\n{name} ({unit}; {machine()})")
    print(f"{'':{width}}  {'median':>10} {'best':>10} {'worst':>10}  n")
    for key, values in results.items():
        print(f"{key:{width}}  {median(values):10.4g} {min(values):10.4g} {max(values):10.4g}  {len(values)}")
    for key, value in (notes or {}).items():
        print(f"{key}: {value}")
    medians = {key: round(median(values), 6) for key, values in results.items()}
    print(
        json.dumps(
            {"bench": name, "unit": unit, "median": medians, "notes": notes or {}, "machine": machine()}
        )
    )


def machine() -> str:
    """What this was measured on."""
    return f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
