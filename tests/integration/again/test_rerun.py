"""`rerun` and `replay` on real runs: in place, in a copy, of a live run, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import Run, sflow_ctl, wait_until

WORKFLOW = """version: "0.1"
variables: {SIZE: {value: 1}}
workflow:
  name: w
  labels: {team: vision, size: "${{ variables.SIZE }}"}
  tasks:
    - {name: prep, script: ["echo prep"]}
    - name: train
      script: ["test -e $SFLOW_WORKSPACE_DIR/go"]
      depends_on: [prep]
      on_failure: isolate
      replicas: {count: 2}
    - {name: other, script: ["exit 3"], on_failure: isolate}
    - {name: last, script: ["echo last"], depends_on: [train]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run has failed whose trainings would succeed now."""
    place = tmp_path_factory.mktemp("again")
    (place / "w.yaml").write_text(WORKFLOW)
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", "--label", "team=text", cwd=place).returncode == 1
    (place / "go").touch()
    return place


def tasks(place: Path, run: str) -> dict[str, tuple[str, int]]:
    """State and attempts of each task."""
    whole = json.loads((place / "sflow_output" / run / ".sflow" / "summary.json").read_text())
    return {one["name"]: (one["state"], one["attempts"]) for one in whole["tasks"]}


def facts(place: Path, run: str) -> Any:
    return json.loads((place / "sflow_output" / run / ".sflow" / "run.json").read_text())


def test_a_dry_run_says_what_would_run_and_why_and_changes_nothing(place: Path) -> None:
    before = facts(place, "r")
    done = sflow_ctl("rerun", "r", "--query", "state=failed,task=train", "--dry-run", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "train_1 runs again: it is chosen; it had failed" in done.stdout
    assert "last runs again: it needs train_0, which runs again" in done.stdout
    assert "other is left: it had failed, and is not chosen" in done.stdout
    assert facts(place, "r") == before


def test_a_query_shows_tasks_and_refuses_unknown_words(place: Path) -> None:
    done = sflow_ctl("status", "r", "--query", "state=failed,reason=exit,task=tr*", "--numbers", cwd=place)
    assert [line.split()[:3] for line in done.stdout.splitlines()[3:]] [:2] == [
        ["2", "train_0", "failed"], ["3", "train_1", "failed"]
    ]  # fmt: skip
    for command in ("status", "explain", "rerun", "replay"):
        refused = sflow_ctl(command, "r", "--query", "state=bad", cwd=place)
        assert refused.returncode == 2, refused.stdout
        assert 'there is no value "bad" of state' in refused.stderr
    assert sflow_ctl("logs", "--run", "r", "--query", "node=n9", cwd=place).returncode == 2


def test_a_query_that_means_nothing_can_be_a_failure(place: Path) -> None:
    nothing, some = ("--query", "state=lost"), ("--query", "state=failed")
    assert sflow_ctl("status", "r", *nothing, cwd=place).returncode == 0
    for more in ((), ("--json",)):
        assert sflow_ctl("status", "r", *nothing, "--fail-if-empty", *more, cwd=place).returncode == 1
        assert sflow_ctl("status", "r", *some, "--fail-if-empty", *more, cwd=place).returncode == 0
    refused = sflow_ctl("status", "r", "--fail-if-empty", cwd=place)
    assert (refused.returncode, "needs --query" in refused.stderr) == (2, True)


def test_labels_are_kept_and_found(place: Path) -> None:
    assert facts(place, "r")["labels"] == {"team": "text", "size": "1"}
    done = sflow_ctl("ps", "--query", "label.team=te*,run=r", "--json", cwd=place)
    (entry,) = [run for run in json.loads(done.stdout)["runs"] if run["directory"].startswith(str(place))]
    assert (entry["run_id"], entry["labels"]["size"]) == ("r", "1")


def test_results_are_kept_although_their_tasks_have_changed(place: Path) -> None:
    changed = ("--set", "tasks.prep.script=echo other")
    done = sflow_ctl("rerun", "r", *changed, "--dry-run", cwd=place)
    assert "prep runs again: its script changed" in done.stdout
    kept = sflow_ctl("rerun", "r", *changed, "--keep-completed", "--dry-run", cwd=place)
    assert kept.returncode == 0, kept.stderr
    assert "prep runs again" not in kept.stdout
    assert "prep is kept, although its script changed" in kept.stdout
    for name in ("train_0", "train_1", "other", "last"):
        assert f"{name} runs again" in kept.stdout
    refused = sflow_ctl("rerun", "r", "prep", "--keep-completed", cwd=place)
    assert refused.returncode == 2
    assert "--keep-completed is for a rerun without chosen tasks" in refused.stderr


def test_a_copy_is_made_only_for_what_can_run_and_says_where_it_is_from(place: Path) -> None:
    refused = sflow_ctl("rerun", "r", "last", "--new", "--run-id", "c", cwd=place)
    assert refused.returncode == 2
    assert (
        "last cannot run again: it needs train_0, which had failed, and does not run again" in refused.stderr
    )
    assert not (place / "sflow_output" / "c").exists()
    done = sflow_ctl("rerun", "r", "prep", "--only", "--new", "--run-id", "c", cwd=place)
    assert done.returncode == 1, done.stderr  # what had failed is left
    assert tasks(place, "c")["prep"] == ("completed", 2)
    assert tasks(place, "c")["train_0"] == ("failed", 1)
    assert tasks(place, "r")["prep"] == ("completed", 1)
    assert facts(place, "c")["derived_from"] == {
        "how": "rerun", "run_id": "r", "directory": str(place / "sflow_output" / "r"), "tasks": ["prep"]
    }  # fmt: skip


def test_a_replay_is_a_new_run_of_the_same_plan_and_changes_nothing_of_the_old(place: Path) -> None:
    before = tasks(place, "r")
    done = sflow_ctl("replay", "r", "--id", "train_*", "--index", "2", "--run-id", "p", cwd=place)
    assert done.returncode == 0, done.stderr
    assert tasks(place, "p") == {"prep": ("completed", 1), "train_0": ("completed", 1)}
    assert facts(place, "p")["derived_from"]["how"] == "replay"
    assert tasks(place, "r") == before
    assert facts(place, "p")["labels"] == {"team": "text", "size": "1"}
    for words, said in (
        (["--id", "nothing*"], "no task of r is meant by --id nothing*"),
        (["--index", "9"], "there is no task number 9: r has 5"),
        (["--id", "prep", "--index", "2"], "no task is meant by all of"),
    ):
        refused = sflow_ctl("replay", "r", *words, cwd=place)
        assert refused.returncode == 2
        assert said in refused.stderr


def test_chosen_tasks_run_in_place_as_their_next_attempts_and_so_does_a_change(place: Path) -> None:
    done = sflow_ctl("rerun", "r", "--query", "state=failed,task=train", cwd=place)
    assert done.returncode == 1, done.stderr
    assert "task other was not run again: it had failed, and is not chosen" in done.stdout
    assert tasks(place, "r") == {
        "prep": ("completed", 1),
        "train_0": ("completed", 2),
        "train_1": ("completed", 2),
        "other": ("failed", 1),
        "last": ("completed", 1),
    }
    assert (place / "sflow_output" / "r" / ".sflow" / "plan.1.json").exists()
    fixed = place / "fixed.yaml"
    fixed.write_text(WORKFLOW.replace("exit 3", "exit 0"))
    assert sflow_ctl("rerun", "r", "--file", "fixed.yaml", cwd=place).returncode == 0
    assert tasks(place, "r")["other"] == ("completed", 2)
    done = sflow_ctl("rerun", "r", cwd=place)  # of the file that it has been run with last
    assert (done.returncode, "Nothing to rerun" in done.stdout) == (0, True), done.stderr
    assert sflow_ctl("rerun", "r", "--set", "SIZE=2", cwd=place).returncode == 0
    assert tasks(place, "r")["prep"] == ("completed", 2)


LIVE = """version: "0.1"
workflow:
  name: live
  tasks:
    - {name: a, script: ["echo a"]}
    - {name: b, script: ["echo b"], depends_on: [a]}
    - {name: wait, script: ["until [ -e $SFLOW_WORKSPACE_DIR/over ]; do sleep 0.05; done"]}
"""


def _completed(run: Run, task: str) -> int:
    moves = [entry.transition for entry in run.entries() if entry.transition is not None]
    return sum(one.task == task and one.new.value == "completed" for one in moves)


def test_in_a_live_run_what_has_ended_starts_again_and_what_runs_is_left_alone(tmp_path: Path) -> None:
    run = Run.start(LIVE, tmp_path)
    try:
        run.wait_for("b", "completed")
        run.wait_for("wait", "running")
        refused = sflow_ctl("rerun", "r", "wait", cwd=tmp_path)
        assert (refused.returncode, "no chosen task of r has ended" in refused.stderr) == (2, True)
        refused = sflow_ctl("rerun", "r", "a", "--new", cwd=tmp_path)
        assert (refused.returncode, "r is running: its plan stays as it is" in refused.stderr) == (2, True)
        done = sflow_ctl("rerun", "r", "a", "wait", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "left alone, they have not ended: wait" in done.stdout
        wait_until(lambda: _completed(run, "b") == 2, "b has completed twice")
        refused = sflow_ctl("retry", "r", "wait", cwd=tmp_path)
        assert (refused.returncode, "wait has not ended" in refused.stderr) == (2, True)
        done = sflow_ctl("retry", "r", "a", "wait", cwd=tmp_path)
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "a starts again; it was completed"), (
            done.stderr
        )
        assert "left alone, they have not ended: wait" in done.stderr
        wait_until(lambda: _completed(run, "b") == 3, "b has completed three times")
        (tmp_path / "over").touch()
        assert run.finish()[0] == 0
    finally:
        run.kill()
    assert tasks(tmp_path, "r") == {"a": ("completed", 3), "b": ("completed", 3), "wait": ("completed", 1)}
