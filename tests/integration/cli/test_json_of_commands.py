"""`--json` of commands that start, write or list: what programs read from standard output is JSON and nothing else."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import PATIENCE_S, command, sflow_ctl, wait_until

WORKFLOW = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ["echo one; echo two"]}
    - {name: b, script: ["exit 3"], depends_on: [{task: a, until: completed}]}
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, list[dict[str, Any]]]:
    """Where a run has failed, its exit status, and what `run --json` has printed."""
    place = tmp_path_factory.mktemp("json")
    (place / "w.yaml").write_text(WORKFLOW)
    done = sflow_ctl("run", "w.yaml", "--json", "--run-id", "r", cwd=place)
    return place, done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_ux_15_a_run_is_lines_of_events_and_its_summary(
    lines: tuple[Path, int, list[dict[str, Any]]],
) -> None:
    place, status, (first, *events, last) = lines
    assert status == 1
    assert first == {"version": 1, "type": "run", "run_id": "r", "directory": str(place / "sflow_output/r")}
    assert [one["text"] for one in events if one["task"] == "b"][-1].startswith("b")
    assert {one["version"] for one in events} == {1}
    assert (last["type"], last["exit_status"], last["summary"]["exit_status"]) == ("summary", 1, 1)
    assert last["summary"]["cause"]["task"] == "b"
    listed = sflow_ctl("events", "r", "--json", cwd=place).stdout.splitlines()
    assert [json.loads(line) for line in listed] == events


def test_ux_15_logs_are_lines_with_their_times(lines: tuple[Path, int, list[dict[str, Any]]]) -> None:
    done = sflow_ctl("logs", "--run", "r", "--json", cwd=lines[0])
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["label"], one["text"]) for one in shown] == [("a", "one"), ("a", "two")]
    assert all(one["wall_ns"] > 0 and one["version"] == 1 for one in shown)
    (only,) = sflow_ctl("logs", "a", "-n", "1", "--json", cwd=lines[0]).stdout.splitlines()
    assert json.loads(only)["text"] == "two"


def test_ux_15_errors_before_a_run_are_sentences_with_their_status(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("script", "scirpt"))
    done = sflow_ctl("run", "w.yaml", "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "scirpt" in done.stderr
    assert "--tui is for people" in sflow_ctl("run", "w.yaml", "--json", "--tui", cwd=tmp_path).stderr


def test_ux_15_a_signal_stops_the_run_that_is_followed(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("echo one; echo two", "sleep 600"))
    process = subprocess.Popen(
        command("run", "w.yaml", "--json", "--run-id", "s"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    journal = tmp_path / "sflow_output/s/.sflow/events.jsonl"
    wait_until(lambda: journal.exists() and '"new":"running"' in journal.read_text(), "it runs")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE_S)
    last = json.loads(said.splitlines()[-1])
    assert (last["type"], last["summary"]["outcome"]) == ("summary", "terminated")
    assert process.returncode == last["exit_status"] == 143


def test_ux_15_a_plan_and_a_detached_run_are_json_too(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    done = sflow_ctl("run", "w.yaml", "--dry-run", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == json.loads(sflow_ctl("plan", "w.yaml", "--json", cwd=tmp_path).stdout)
    done = sflow_ctl("run", "w.yaml", "--detach", "--json", "--run-id", "d", cwd=tmp_path)
    assert json.loads(done.stdout)["directory"] == str(tmp_path / "sflow_output/d")
    assert sflow_ctl("wait", "d", cwd=tmp_path).returncode == 1


def test_ux_15_lists_and_scripts_are_json_too(tmp_path: Path) -> None:
    presets = json.loads(sflow_ctl("presets", "--json", cwd=tmp_path).stdout)["presets"]
    first = presets[0]["name"]
    (one,) = json.loads(sflow_ctl("presets", first, "--json", cwd=tmp_path).stdout)["presets"]
    assert one == presets[0]
    samples = json.loads(sflow_ctl("sample", "--json", cwd=tmp_path).stdout)["samples"]
    done = sflow_ctl("sample", "copy", samples[0]["name"], "--json", cwd=tmp_path)
    assert Path(json.loads(done.stdout)["path"]).parent == tmp_path
    (tmp_path / "w.yaml").write_text(
        'backends: {s: {type: slurm, account: a, partition: p, time: "10", nodes: 1, gpus_per_node: 1}}\n'
        + WORKFLOW
    )
    done = sflow_ctl("batch", "w.yaml", "-o", "j.sh", "--json", cwd=tmp_path)
    (job,) = json.loads(done.stdout)["jobs"]
    assert (job["status"], job["script"], job["job_id"]) == ("written", str(tmp_path / "j.sh"), None)
    assert Path(job["workflow"]).is_file()
    done = sflow_ctl("batch", "-B", "w.yaml", "--json", cwd=tmp_path)
    whole = json.loads(done.stdout)
    assert [one["status"] for one in whole["jobs"]] == ["written"]
    assert Path(whole["table"]).is_file()


def test_first_files_and_skills_are_json_too(tmp_path: Path) -> None:
    def told(*words: str) -> Any:
        done = sflow_ctl(*words, "--json", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    assert "sweep" in [one["name"] for one in told("init", "--list")["templates"]]
    begun = told("init", "sweep")
    assert (begun["path"], begun["next"]) == (str(tmp_path / "sflow.yaml"), "sflow-ctl run")
    assert Path(begun["schema"]).is_file()
    assert told("init", "-o", "b.yaml", "--no-schema")["schema"] == ""
    names = [one["name"] for one in told("skill", "--list")["skills"]]
    (first,) = told("skill", "-o", "here")["folders"]
    assert first["written"] >= len(names) > 1
    (again,) = told("skill", "-o", "here")["folders"]
    assert (again["written"], again["unchanged"]) == (0, first["written"])
