"""`run --reuse`: results of another run, by key or name and fingerprint; outputs that were set; what is gone."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import sflow_ctl

WORKFLOW = """version: "0.1"
variables: {SCALE: {value: 2}}
workflow:
  name: w
  outputs: {best: pick.outputs.best}
  tasks:
    fit:
      key: fit/${{ replica.index }}
      replicas: 3
      inputs: {data: {path: data.txt}}
      script:
        - echo made >> $SFLOW_WORKSPACE_DIR/made
        - cp $INPUT_DATA $SFLOW_TASK_OUTPUT_DIR/model
        - echo "{\\"loss\\":$((SFLOW_REPLICA_INDEX + 1))}" > $SFLOW_OUTPUTS_FILE
      outputs: {loss: {type: int}, model: {path: model}}
    pick:
      inputs: {losses: {from: fit.outputs.loss, type: list}}
      python: pick.py:main
      outputs: {best: {type: int}}
"""
PICK = "def main(losses):\n    return min(losses)\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a run has ended whose last task failed, and would succeed now."""
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    (tmp_path / "data.txt").write_text("data")
    (tmp_path / "pick.py").write_text("def main(losses):\n    raise ValueError\n")
    assert sflow_ctl("run", "w.yaml", "--run-id", "one", cwd=tmp_path).returncode == 1
    (tmp_path / "pick.py").write_text(PICK)
    return tmp_path


def decisions(place: Path, *options: str) -> dict[str, tuple[str, str]]:
    done = sflow_ctl("plan", "w.yaml", "--json", *options, cwd=place)
    assert done.returncode == 0, done.stderr
    return {one["task"]: (one["decision"], one["why"]) for one in json.loads(done.stdout)["reuse"]}


def words(place: Path, *options: str) -> list[str]:
    return [word for word, _ in decisions(place, *options).values()]


def outputs(place: Path, run: str) -> dict[str, Any]:
    listed = json.loads(sflow_ctl("outputs", run, "--json", cwd=place).stdout)
    of_tasks = {f"{one['task']}.{one['name']}": one["value"] for one in listed["outputs"]}
    return {**of_tasks, **listed["workflow"]}


def test_what_had_completed_is_taken_over_and_the_rest_runs(place: Path) -> None:
    assert decisions(place, "--reuse", "one") == {
        "fit_0": ("hit", "fit_0 of one is the same work"),
        "fit_1": ("hit", "fit_1 of one is the same work"),
        "fit_2": ("hit", "fit_2 of one is the same work"),
        "pick": ("miss", "pick of one is failed"),
    }
    done = sflow_ctl("run", "w.yaml", "--reuse", "one", "--run-id", "two", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (place / "made").read_text() == "made\n" * 3
    assert outputs(place, "two")["best"] == 1
    status = json.loads(sflow_ctl("status", "two", "--json", cwd=place).stdout)["tasks"]
    first = status[0]
    assert (first["state"], first["attempts"], first["reason_word"]) == ("completed", 0, "reused")
    assert first["reason"].startswith("its result is that of fit_0 of one, attempt 1; fingerprint ")
    record = json.loads((place / "sflow_output/two/.sflow/reuse.json").read_text())
    assert [one["decision"] for one in record["decisions"]] == ["hit", "hit", "hit", "miss"]
    assert len(record["decisions"][0]["fingerprint"]) == 64
    # a further run may take over from this one, and a rerun in it knows what it has
    assert words(place, "--reuse", "two") == ["hit"] * 4
    again = sflow_ctl("rerun", "two", "fit[1]", cwd=place)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (place / "made").read_text() == "made\n" * 4


def test_changed_work_is_stale_with_what_has_changed(place: Path) -> None:
    assert words(place, "--reuse", "one:fit[0:2]") == ["hit", "hit", "miss", "miss"]
    assert decisions(place, "--reuse", "one", "-s", "SCALE=3")["fit_0"] == (
        "stale", "its environment variable SCALE changed from 2 to 3",
    )  # fmt: skip
    assert words(place, "--reuse", "one", "-s", "SCALE=3", "--reuse-anyway", "fit/1") == [
        "stale",
        "forced",
        "stale",
        "miss",
    ]
    (place / "data.txt").write_text("other")
    assert decisions(place, "--reuse", "one")["fit_1"] == ("stale", f"its file {place}/data.txt changed")


def test_a_file_that_is_gone_is_found_when_planning(place: Path) -> None:
    model = place / "sflow_output/one/fit_1/model"
    model.unlink()
    assert decisions(place, "--reuse", "one")["fit_1"] == ("stale", f"its output model is gone: {model}")
    assert words(place, "--reuse", "one", "--reuse-anyway", "fit/1") == ["hit", "stale", "hit", "miss"]


def test_a_value_that_was_set_makes_what_was_made_of_it_stale(place: Path) -> None:
    assert sflow_ctl("rerun", "one", cwd=place).returncode == 0
    assert words(place, "--reuse", "one") == ["hit"] * 4
    wrong = sflow_ctl("outputs", "set", "one", "fit/1", "loss=x", cwd=place)
    assert wrong.returncode == 2
    assert "output loss of fit_1: wanted int, got the text 'x'" in wrong.stderr
    done = sflow_ctl("outputs", "set", "one", "fit/1", "loss=-7", cwd=place)
    assert (
        done.stdout
        == "fit_1.loss: -7, was 2\nstale now: pick; sflow-ctl rerun sflow_output/one runs them again\n"
    )
    why = "it needs fit_1, whose output loss was set after that"
    assert decisions(place, "--reuse", "one")["pick"] == ("stale", why)
    assert json.loads((place / "sflow_output/one/fit_1/outputs.json").read_text())["outputs"]["loss"] == 2
    assert sflow_ctl("run", "w.yaml", "--reuse", "one", "--run-id", "two", cwd=place).returncode == 0
    assert outputs(place, "two")["best"] == outputs(place, "two")["fit_1.loss"] == -7
    assert sflow_ctl("rerun", "one", cwd=place).returncode == 0
    assert outputs(place, "one")["best"] == -7
    assert (place / "made").read_text() == "made\n" * 3


def test_what_cannot_be_reused_is_refused(place: Path) -> None:
    for options, text in (
        (("--reuse", "none"), "no run in"),
        (("--reuse", "one:nobody"), 'run one has no task "nobody"'),
        (("--reuse", "one", "--reuse-anyway", "nobody"), 'the workflow has no task "nobody"'),
        (("--reuse-anyway", "fit"), "--reuse-anyway needs --reuse"),
    ):
        done = sflow_ctl("run", "w.yaml", *options, cwd=place)
        assert done.returncode == 2
        assert text in done.stderr
    assert not (place / "sflow_output/two").exists()


GROWN = """version: "0.1"
workflow:
  name: w
  outputs: {all: each.outputs.v, last: loop.outputs.n}
  blocks:
    step:
      inputs: {n: int}
      outputs: {n: "${{ task.a.outputs.n }}"}
      tasks:
        a:
          script: echo "{\\"n\\":$(( ${{ block.inputs.n }} + 1 ))}" > $SFLOW_OUTPUTS_FILE
          outputs: {n: {type: int}}
  tasks:
    size:
      script: echo '{"n":2}' > $SFLOW_OUTPUTS_FILE
      outputs: {n: {type: int}}
    each:
      foreach: "${{ range(task.size.outputs.n) }}"
      script: echo "{\\"v\\":$SFLOW_ITEM}" > $SFLOW_OUTPUTS_FILE
      outputs: {v: {type: int}}
    loop: {block: step, with: {n: 0}, loop: {max_iterations: 2, carry: {n: "${{ last.outputs.n }}"}}}
    sum: {inputs: {all: {from: each.outputs.v}}, script: 'echo "all $INPUT_ALL"'}
"""


def test_results_of_what_a_plan_grows_by_reach_what_needs_them(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(GROWN)
    assert sflow_ctl("run", "w.yaml", "--run-id", "one", cwd=tmp_path).returncode == 0
    (tmp_path / "w.yaml").write_text(GROWN.replace("all $INPUT", "changed $INPUT"))
    done = sflow_ctl("run", "w.yaml", "--run-id", "two", "--reuse", "one", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[sum] changed [0,1]" in done.stdout
    assert outputs(tmp_path, "two") == outputs(tmp_path, "one")
    assert outputs(tmp_path, "two")["all"] == [0, 1]
