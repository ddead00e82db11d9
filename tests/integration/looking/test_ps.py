"""`ps`: live, ended, dead and broken runs, here and elsewhere, and what Slurm says."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.faults.fake_slurm import FakeSlurm
from tests.support import Run, nothing_left, sflow_ctl, wait_until

SERVICE = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["echo up; exec sleep 600"]}]}\n'
SHORT = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["true"]}, {name: b, script: ["exit 3"]}]}\n'


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This machine's squeue is of a cluster that some other test makes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sh", "env", "sleep", "echo", "true"):
        (folder / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(folder))


def entries(cwd: Path, *words: str) -> dict[str, dict[str, object]]:
    done = sflow_ctl("ps", "--json", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    assert whole["version"] == 1
    return {run["run_id"]: run for run in whole["runs"]}


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_ux_04_live_and_ended_runs_are_listed_from_any_directory(tmp_path: Path) -> None:
    here, other = folder(tmp_path / "here"), folder(tmp_path / "other")
    live = Run.start(SERVICE, here, run_id="live")
    try:
        live.wait_for("a", "running")
        ended = Run.start(SHORT, other, run_id="ended")
        assert ended.finish()[0] == 1
        found = wait_until(lambda: (runs := entries(other)) and runs, "the registry")
        assert list(found) == ["live"]
        assert found["live"]["state"] == "running"
        assert found["live"]["counts"] == {"running": 1}
        assert found["live"]["directory"] == str(live.directory)
        every = entries(here, "-a")
        assert list(every) == ["ended", "live"], "the newest first"
        assert (every["ended"]["state"], every["ended"]["exit_status"]) == ("failed", 1)
        table = sflow_ctl("ps", "-a", cwd=tmp_path).stdout
        assert table.splitlines()[0].split() == [
            "RUN",
            "STATE",
            "TASKS",
            "AGE",
            "LASTED",
            "WHERE",
            "DIRECTORY",
        ]
        assert "1/2, 1 failed" in table
        assert "0/1" in table
        assert sflow_ctl("status", "live", cwd=other).stdout.startswith("live is running")
        assert "no-such-run" in sflow_ctl("status", "nosuch", cwd=other).stderr
        nowhere = sflow_ctl("status", cwd=tmp_path).stderr
        assert "error[no-runs]" in nowhere
        assert f"name a run, e.g. {ended.directory}" in nowhere
    finally:
        live.kill()


def test_ux_04_a_run_whose_controller_was_killed_has_died_and_can_be_resumed(
    tmp_path: Path,
) -> None:
    run = Run.start(SERVICE, tmp_path, run_id="dead")
    try:
        run.wait_for("a", "running")
        pid = run.controller
        run.kill_both()
        run.process.wait()
        nothing_left(run)
        found = entries(tmp_path)["dead"]
        assert (found["state"], found["counts"]) == ("died", {"lost": 1})
        assert f"pid {pid}" in str(found["text"])
        listed = sflow_ctl("ps", cwd=tmp_path).stdout
        assert "is gone" in listed
        assert "resume: sflow-ctl run --resume sflow_output/dead\n" in listed
        assert "sflow-ctl run --resume sflow_output/dead\n" in sflow_ctl("status", cwd=tmp_path).stdout
    finally:
        run.kill()


def test_runs_that_are_broken_or_deleted_hide_no_other(tmp_path: Path) -> None:
    for name in ("good", "broken", "deleted"):
        assert Run.start(SHORT, tmp_path, run_id=name).finish()[0] == 1
    registry = Path(os.environ["XDG_STATE_HOME"], "sflow/runs")
    wait_until(lambda: len(list(registry.iterdir())) == 3, "three links")
    output = tmp_path / "sflow_output"
    (output / "broken/.sflow/summary.json").unlink()
    (output / "broken/.sflow/plan.json").write_text("{")
    shutil.rmtree(output / "deleted")
    (registry / "no-link").write_text("")
    found = entries(tmp_path, "-a")
    assert {name: run["state"] for name, run in found.items()} == {"good": "failed", "broken": "unreadable"}
    assert "plan.json" in str(found["broken"]["text"])
    assert [link.name.split(".")[0] for link in registry.iterdir() if link.is_symlink()].count("deleted") == 0
    assert "broken unreadable: " in sflow_ctl("ps", "-a", cwd=tmp_path).stdout


def test_nothing_to_show_says_what_there_is(tmp_path: Path) -> None:
    assert sflow_ctl("ps", cwd=tmp_path).stdout == "no runs: sflow_output has none, and no other is known\n"
    assert Run.start(SHORT, tmp_path).finish()[0] == 1
    assert sflow_ctl("ps", cwd=tmp_path).stdout == "no run is live; 1 run ended: sflow-ctl ps -a\n"


def test_a_home_that_cannot_be_written_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    run = Run.start(SHORT, tmp_path)
    status, output = run.finish()
    assert (status, "Traceback" in output) == (1, False)
    assert list(entries(tmp_path, "-a")) == ["r"]


def test_jobs_of_slurm_without_a_run_have_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = FakeSlurm(tmp_path)
    slurm.command(
        "squeue", 'echo "12|PENDING|Resources|2026-01-02T03:04:05|serve | bench"; echo "13|RUNNING|None|x|y"'
    )
    monkeypatch.setenv("PATH", f"{slurm.directory}:{os.environ['PATH']}")
    whole = json.loads(sflow_ctl("ps", "--json", cwd=tmp_path).stdout)
    first = {"job_id": "12", "name": "serve | bench", "state": "pending", "reason": "Resources"}
    assert whole["jobs"][0] == {**first, "submitted": "2026-01-02T03:04:05"}
    lines = sflow_ctl("ps", cwd=tmp_path).stdout.splitlines()
    assert lines[1].split("  ")[:2] == ["serve | bench", "pending: Resources"]
    assert "job 13" in lines[2]
    slurm.command("squeue", "echo squeue: error: no controller >&2; exit 1")
    began = time.monotonic()
    assert "Slurm's jobs are not shown: squeue: error: no controller" in sflow_ctl("ps", cwd=tmp_path).stdout
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("run.json", '"format":1', '"format":9'), ("summary.json", '"version":1', '"version":9')],
)
def test_a_run_of_a_newer_version_says_so_in_its_row(file: str, old: str, new: str, tmp_path: Path) -> None:
    Run.start(SHORT, tmp_path, run_id="later").finish()
    Run.start(SHORT, tmp_path, run_id="mine").finish()
    path = tmp_path / "sflow_output/later/.sflow" / file
    text = path.read_text().replace(": ", ":", 1) if old not in path.read_text() else path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    shown = entries(tmp_path, "-a")
    assert (shown["mine"]["state"], shown["later"]["state"]) == ("failed", "unreadable")
    assert f"{file} was written by sflow-ctl " in str(shown["later"]["text"])
    assert "in format 9" in sflow_ctl("ps", "-a", cwd=tmp_path).stdout
