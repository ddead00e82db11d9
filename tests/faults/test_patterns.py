"""Branches, map and reduce, lists from outputs, reuse with a changed output: killed in the middle, with the same results."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patterns import PATTERNS, STEPS, Pattern, expected_starts, starts
from tests.support import Run, await_takeover, kill_run, nothing_left, sflow_ctl, wait_until


@pytest.fixture(params=PATTERNS)
def pattern(request: pytest.FixtureRequest) -> Pattern:
    return PATTERNS[request.param]


@pytest.fixture
def waiting(pattern: Pattern, tmp_path: Path) -> Iterator[Run]:
    """A run in the middle: one task waits, all that may have ended before has."""
    pattern.write(tmp_path)
    run = Run.start(pattern.workflow, tmp_path)
    try:
        wait_until(lambda: starts(tmp_path)[pattern.waiting], "its last task has begun")
        wait_until(
            lambda: pattern.is_all_else_done(run.states()), f"all else that can end has: {run.states()}"
        )
        yield run
    finally:
        run.kill()


def outputs(run: Run) -> dict[str, Any]:
    content = json.loads((run.directory / ".sflow/outputs.json").read_text())
    return {one["name"]: one["value"] for one in content["outputs"]}


def check_end(run: Run, pattern: Pattern, place: Path, *, is_resumed: bool) -> None:
    assert outputs(run) == pattern.outputs
    assert starts(place) == expected_starts(pattern, is_resumed=is_resumed)
    found = json.loads(sflow_ctl("status", run.directory, "--json", cwd=place).stdout)["tasks"]
    assert {one["name"]: one["reason_word"] for one in found if one["state"] == "skipped"} == pattern.skipped
    failed = [one["name"] for one in found if one["state"] == "failed"]
    assert failed == ([pattern.failed] if pattern.failed else [])


def test_a_successor_brings_it_to_the_same_end(waiting: Run, pattern: Pattern, tmp_path: Path) -> None:
    waiting.kill_controller()
    await_takeover(waiting.directory)
    (tmp_path / "go").touch()
    status, output = waiting.finish()
    assert status == 0, output
    check_end(waiting, pattern, tmp_path, is_resumed=False)
    nothing_left(waiting)


def test_a_resumed_run_comes_to_the_same_end(waiting: Run, pattern: Pattern, tmp_path: Path) -> None:
    kill_run(waiting.process)
    nothing_left(waiting)
    (tmp_path / "go").touch()
    done = sflow_ctl("run", "--resume", waiting.directory, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_end(waiting, pattern, tmp_path, is_resumed=True)


REUSE = """\
version: "0.1"
workflow:
  name: reuse
  outputs: {sum: total.outputs.sum}
  tasks:
    names: {python: "steps.py:names", outputs: {names: {type: list}}}
    length:
      foreach: ${{ task.names.outputs.names }}
      python: steps.py:length
      inputs: {name: {value: "${{ item }}", type: str}}
      outputs: {length: {type: int}}
    checked: {depends_on: length, script: 'echo checked >> made; test -e mended'}
    total:
      depends_on: checked
      python: steps.py:total
      inputs: {values: {from: length.outputs.length, type: list}}
      outputs: {sum: {type: int}}
"""


@pytest.mark.parametrize("whole", [False, True])
def test_reuse_with_a_changed_output_after_a_failure_is_killed(tmp_path: Path, whole: bool) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "w.yaml").write_text(REUSE)
    (tmp_path / "go").touch()
    failed = sflow_ctl("run", "w.yaml", "--run-id", "one", cwd=tmp_path)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert starts(tmp_path)["total"] == 0
    changed = sflow_ctl("outputs", "set", "one", "names", 'names=["a","long one","ef"]', cwd=tmp_path)
    assert changed.returncode == 0, changed.stderr
    for name in ("made", "go"):
        (tmp_path / name).unlink()
    (tmp_path / "mended").touch()
    run = Run.start(REUSE, tmp_path, "--reuse", "one", run_id="two")
    try:
        wait_until(lambda: starts(tmp_path)["length_2"], "its last item has begun")
        run.wait_for("length_1", "completed")
        if whole:
            kill_run(run.process)
            nothing_left(run)
            (tmp_path / "go").touch()
            again = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
            status, output = again.returncode, again.stdout + again.stderr
        else:
            run.kill_controller()
            (tmp_path / "go").touch()
            status, output = run.finish()
        assert status == 0, output
    finally:
        run.kill()
    assert outputs(run) == {"sum": 11}
    expected = {"length_0": 1, "length_1": 1, "length_2": 1 + whole, "checked": 1, "total": 1}
    assert starts(tmp_path) == Counter(expected), "what was made of the changed output, and nothing else"
