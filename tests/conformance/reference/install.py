"""Makes an environment with a released package; finds the samples that sflow carries, and lets it plan.

Environments are kept in the user's cache, by version. Used by `test_reference.py`, `test_slurmforge.py` and `bench/reference.py`.
"""

import csv
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

VERSION = "0.3.1"
_THERE = Path(__file__).parent / "plan_there.py"
_SLOW_S = 300
_NOT_OVERRIDES = ("sflow_config_file", "missable_tasks")
_ARTIFACTS = ("LOCAL_MODEL_PATH",)


class NotInstalledError(Exception):
    """No environment with that version can be made here; the text says why."""


def environment(version: str = VERSION, package: str = "nv-sflow") -> Path:
    """Return the interpreter of an environment with that version of a package. Raises: NotInstalledError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "sflow-ctl" / f"{package}-{version}"
    python = place / "bin" / "python"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:  # tests in several processes want it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            _install(f"{package}=={version}", place, python)
    return python


def _install(package: str, place: Path, python: Path) -> None:
    """Make the environment. Raises: NotInstalledError."""
    try:
        subprocess.run(
            [sys.executable, "-m", "venv", str(place)], check=True, capture_output=True, timeout=_SLOW_S
        )
        command = [str(python), "-m", "pip", "install", "-q", "--retries", "1", package]
        subprocess.run(command, check=True, capture_output=True, timeout=_SLOW_S)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NotInstalledError(f"{package} cannot be installed: {' '.join(last)}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"{package} cannot be installed: {error}") from error
    (place / "complete").touch()


def samples_directory(python: Path) -> Path:
    """Return the directory of the samples that the package carries. Raises: NotInstalledError."""
    code = "import sflow.samples as s; print(s.get_samples_dir())"
    done = subprocess.run(
        [str(python), "-c", code], check=False, capture_output=True, text=True, timeout=_SLOW_S
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise NotInstalledError(f"the nv-sflow of {python} has no samples: {' '.join(last)}")
    return Path(done.stdout.strip().splitlines()[-1])


def samples(directory: Path) -> dict[str, list[str]]:
    """Return every plan that the samples are meant for: arguments after `run` or `plan`, by name."""
    found: dict[str, list[str]] = {}
    for file in sorted(directory.glob("self_contained/**/*.yaml")):
        found[str(file.relative_to(directory))] = ["-f", str(file)]
    bundle = directory / "modular" / "inference_x_v2"
    for file in sorted(bundle.glob("composed_recipes/*.yaml")):
        found[str(file.relative_to(directory))] = ["-f", str(file)]
    found |= _rows(bundle)
    agnostic = directory / "modular" / "backend_agnostic"
    for backend in sorted(agnostic.glob("backends/*.yaml")):
        for workload in sorted(agnostic.glob("workloads/*.yaml")):
            if workload.stem == "dynamo_common":
                continue
            files = [backend, workload, agnostic / "benchmark.yaml"]
            if workload.stem.startswith("dynamo_"):
                files.insert(1, agnostic / "workloads" / "dynamo_common.yaml")
            name = f"backend_agnostic/{backend.stem}/{workload.stem}"
            found[name] = [word for file in files for word in ("-f", str(file))]
    return found


def _rows(bundle: Path) -> dict[str, list[str]]:
    """Return the rows of the sheet as options."""
    sheet = bundle / "bulk_input.csv"
    if not sheet.exists():
        return {}
    found = {}
    with sheet.open(newline="") as text:
        for number, row in enumerate(csv.DictReader(text), 1):
            argv = [word for file in row["sflow_config_file"].split() for word in ("-f", str(bundle / file))]
            for name, cell in row.items():
                if name in _NOT_OVERRIDES or not cell:
                    continue
                option = "--artifact" if name in _ARTIFACTS else "--set"
                argv += [option, f"{name}={cell}"]
            for pattern in (row.get("missable_tasks") or "").replace(",", " ").split():
                argv += ["--missable-tasks", pattern]
            found[f"inference_x_v2/row-{number}"] = argv
    return found


def plans_there(
    python: Path, jobs: Mapping[str, Sequence[str]], folder: Path
) -> dict[str, dict[str, object]]:
    """Return what that sflow plans for each job, or its error."""
    given, answer = folder / "jobs.json", folder / "plans.json"
    workspace = folder / "workspace"
    workspace.mkdir(exist_ok=True)
    given.write_text(json.dumps({name: ["run", *argv, "--dry-run"] for name, argv in jobs.items()}))
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SFLOW"))}
    command = [str(python), "-I", str(_THERE), str(given), str(workspace), str(answer)]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=2 * _SLOW_S, check=False
    )
    if done.returncode or not answer.exists():
        raise NotInstalledError(f"planning with nv-sflow has failed: {done.stderr[-500:]}")
    plans: dict[str, dict[str, object]] = json.loads(answer.read_text())
    return plans
