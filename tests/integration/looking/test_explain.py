"""`explain` as a command, on runs of every kind."""

import json
from pathlib import Path

from tests.support import Run, sflow_ctl


def test_ux_03_a_live_run_says_what_each_task_waits_for(live: Run, tmp_path: Path) -> None:
    text = sflow_ctl("explain", cwd=tmp_path).stdout
    assert text.startswith("live is running: controller pid")
    assert "srv is running on localhost for " in text
    assert "it is ready once: log '^up$'" in text
    assert "    | loading" in text
    assert "it needs srv to be ready; srv is running for " in text
    assert (
        "train is waiting\n  it needs 1 GPU on one node: localhost\n  localhost: 0 of 1 GPU free; srv has 0\n"
        in text
    )
    assert "bad failed after " in text
    assert "  the first failure was bad, failed: exit status 3" in text
    assert "good" not in text


def test_an_ended_run_says_the_first_cause_once(ended: Run, tmp_path: Path) -> None:
    text = sflow_ctl("explain", cwd=tmp_path).stdout
    assert text.count("| oops") == 1
    assert text.count("--resume") == 2
    assert (
        "after did not run\n  fail_fast: the run began to stop before it could start\n  the first failure was bad"
        in text
    )
    report = json.loads(sflow_ctl("explain", "--json", "bad", cwd=tmp_path).stdout)
    (task,) = report["tasks"]
    assert (report["version"], report["liveness"]) == (1, "ended")
    assert task["log_tail"] == ["oops"]
    assert task["explanation"]["because"][0]["kind"] == "cause"
    assert report["next"][0] == "sflow-ctl logs --run sflow_output/ended bad"


def test_a_killed_controller_is_the_cause_of_what_was_live(killed: Run, tmp_path: Path) -> None:
    text = sflow_ctl("explain", "live", "srv", "cli", cwd=tmp_path).stdout
    assert text.startswith("live died: controller pid")
    assert "srv lost" in text
    assert "its controller died while it ran" in text
    assert "cli was waiting when the run ended" in text
    assert "next: sflow-ctl logs --run sflow_output/live srv\n      sflow-ctl run --resume" in text


def test_files_that_are_missing_leave_the_rest(killed: Run, tmp_path: Path) -> None:
    (killed.directory / "bad/bad.log").unlink()
    text = sflow_ctl("explain", "bad", cwd=tmp_path).stdout
    assert "bad failed" in text
    assert "the end of" not in text
    (killed.directory / ".sflow/events.jsonl").unlink()
    assert "bad was waiting when the run ended" in sflow_ctl("explain", "bad", cwd=tmp_path).stdout
