"""The plans of every sample of sflow 0.3.1, and of the cases, as that package makes them itself, beside ours.

Needs the package: it is installed into an environment of its own, which takes a minute, so this runs where `SFLOW_REFERENCE` or
`CI` is set; `dev.py test` sets it. What differs on purpose is listed here with its reason.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.reference import differences, interpreter
from protocol.errors import FleetError
from tests.conformance.reference.comparison import compare, planned_here
from tests.conformance.reference.install import (
    VERSION,
    NotInstalledError,
    environment,
    plans_there,
    samples,
    samples_directory,
)

CASES = Path(__file__).parent / "sflow_0_3"
ROOT = Path(__file__).parents[2]
LEAST_SAMPLES = 77

INTENDED: Mapping[str, str] = {
    r"(docker/|28-).* \$(CUDA|NVIDIA)_VISIBLE_DEVICES": "numbers of GPUs on docker backends",
    r"03-.* script": "`- echo on: yes` in a script",
    r"04-.* script": "the script of a task with `fail_fast`",
    r"05-.* script": "a variable without `type`",
    r"06-.* script": "expressions of a replica",
    r"07-.* (\$|script)": "addresses of a local backend",
    r"12-.* plain (nodes|\$SFLOW_TASK_ASSIGNED)": "claimed nodes (`nodes.release_after`)",
    r"\$NVIDIA_VISIBLE_DEVICES": "`NVIDIA_VISIBLE_DEVICES`",
    r"13-.* \$PICK": "lists and mappings in the environment",
}
"""Patterns of differences, and where `docs/differences.md` gives what is here instead, and why."""


def test_every_intended_difference_is_documented_with_its_reason() -> None:
    lines = (ROOT / "docs" / "differences.md").read_text().splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| ")]
    reasons = {cells[0].strip(): cells[3].strip() for cells in rows}
    assert set(INTENDED.values()) <= set(reasons)
    assert all(reasons.values())
    assert all(len(cells) == 4 for cells in rows)
    assert VERSION in lines[0]


def _is_intended(difference: str) -> bool:
    return any(re.search(pattern, difference) for pattern in INTENDED)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], dict[str, Any], Path]:
    """Return the jobs, the reference's plans, and the workspace of both."""
    if not (os.environ.get("SFLOW_REFERENCE") or os.environ.get("CI")):
        pytest.skip(f"set SFLOW_REFERENCE=1 to compare with nv-sflow {VERSION}, which is installed for it")
    folder = tmp_path_factory.mktemp("reference")
    try:
        python = environment()
        jobs = samples(samples_directory(python))
        for case in sorted(CASES.glob("*.yaml")):
            jobs[case.stem] = ["-f", str(case)]
        jobs["02-merge"] = ["-f", str(CASES / "02-merge-a.yaml"), "-f", str(CASES / "02-merge-b.yaml")]
        del jobs["02-merge-b"]
        plans: dict[str, Any] = plans_there(python, jobs, folder)
    except NotInstalledError as error:
        pytest.skip(str(error))
    return jobs, plans, folder / "workspace"


def test_every_plan_of_the_reference_is_ours(
    reference: tuple[dict[str, list[str]], dict[str, Any], Path],
) -> None:
    jobs, plans, workspace = reference
    problems: list[str] = []
    equal = refused = 0
    for name, argv in jobs.items():
        ours = planned_here(argv, workspace)
        if "error" in plans[name]:
            if not isinstance(ours, FleetError):
                problems.append(f"{name}: only refused there: {plans[name]['error']}")
            continue
        if isinstance(ours, FleetError):
            codes = {finding.code for finding in ours.findings}
            if codes == {"backend-unsupported"}:
                refused += 1
            else:
                problems.append(f"{name}: only refused here: {ours}")
            continue
        found = compare(plans[name], ours)
        left = [one for one in found.differences if not _is_intended(f"{name} {one}")]
        problems += [f"{name} {one}" for one in left]
        equal += not left
    assert not problems, "\n".join(problems)
    assert equal + refused >= LEAST_SAMPLES + 25
    assert refused <= 40


def test_kubernetes_has_one_finding_for_each_backend(
    reference: tuple[dict[str, list[str]], dict[str, Any], Path],
) -> None:
    jobs, _, workspace = reference
    for name in (one for one in jobs if "kubernetes/" in one or "/k8s" in one):
        ours = planned_here(jobs[name], workspace)
        assert isinstance(ours, FleetError), name
        (finding,) = ours.findings
        assert (finding.code, bool(finding.where)) == ("backend-unsupported", True)


def test_what_two_releases_plan_otherwise_is_named() -> None:
    task = {"nodes": [0], "gpus": "0"}
    old = {"tasks": {"a": task, "b": task, "gone": task}}
    new = {"tasks": {"a": task, "b": {**task, "gpus": "1"}, "more": task}}
    assert list(differences("f", old, new)) == ["f b gpus: '0' -> '1'", "f gone: is gone", "f more: is new"]
    assert list(differences("f", {"error": "x"}, new)) == ["f: x -> planned"]
    assert not list(differences("f", {"error": "x\nat 1"}, {"error": "x\nat 2"}))
    assert list(differences("f", {"error": "x"}, {"error": "y"})) == ["f: x -> y"]


def test_an_interpreter_without_sflow_is_said() -> None:
    assert interpreter(sys.executable) == Path(sys.executable).absolute()
    with pytest.raises(NotInstalledError, match="has no samples: ModuleNotFoundError"):
        samples_directory(Path(sys.executable))
