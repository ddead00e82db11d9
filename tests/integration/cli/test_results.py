"""Outputs of a real run: files, values for later tasks, and one table over a sweep."""

import json
from pathlib import Path

from tests.support import sflow_ctl

SWEEP = r"""
version: "0.1"
variables:
  N: {value: 1, domain: [1, 2, 4]}
workflow:
  name: sweep
  tasks:
    - name: bench
      replicas: {variables: [N]}
      script:
        - 'echo "rate = $(( N * 10 )).5"; echo "rate = $(( N * 10 )).7"'
        - 'printf "step,loss\n1,0.5\n2,0.25\n" > $SFLOW_TASK_OUTPUT_DIR/t.csv'
      outputs:
        - {pattern: "rate = {rate:f}", metrics: {rate: {type: float, aggregate: max}}}
        - {csv: loss, source: t.csv}
    - name: best
      depends_on: [bench]
      script: ['echo "best ${{ task.bench | map(attribute="outputs.rate") | max }} of $FIRST"']
      variables: {FIRST: "${{ task.bench_1.outputs.rate }}"}
"""


def test_a_sweep_has_one_table_and_later_tasks_see_its_values(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(SWEEP)
    run = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "[best] best 40.7 of 10.7" in run.stdout
    (directory,) = (tmp_path / "sflow_output").iterdir()
    rows = [line.split(",") for line in (directory / ".sflow/results.csv").read_text().splitlines()]
    assert rows[0] == ["task", "N", "state", "attempts", "runtime_s", "rate", "loss"]
    facts = [[*row[:4], row[5]] for row in rows[1:]]
    assert facts == [[f"bench_{n}", str(n), "completed", "1", f"{n}0.7"] for n in (1, 2, 4)]
    assert "Results: " in run.stdout
    outputs = json.loads((directory / "bench_2" / "outputs.json").read_text())
    assert outputs["outputs"] == {"rate": [20.5, 20.7], "loss": [0.5, 0.25]}
    assert outputs["metrics"] == {"rate": 20.7}


def test_a_missing_value_fails_its_user_and_lists_the_known_names(tmp_path: Path) -> None:
    text = SWEEP.replace("task.bench_1.outputs.rate", "task.bench_1.outputs.speed")
    (tmp_path / "w.yaml").write_text(text)
    run = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert run.returncode == 2  # no output is called that
    assert 'the output "speed" of "bench", which it does not have' in run.stderr
    printed_by_none = "- {csv: loss, source: t.csv}\n        - {pattern: 'speed = {speed:f}'}"
    (tmp_path / "w.yaml").write_text(text.replace("- {csv: loss, source: t.csv}", printed_by_none))
    run = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert run.returncode == 1
    assert "task best cannot start: " in run.stdout + run.stderr
    assert "speed" in run.stdout
    assert "bench_1: rate, loss" in run.stdout


def test_public_n5_missing_outputs_are_said_on_the_console_and_in_the_summary(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\n'
        "workflow:\n"
        "  name: w\n"
        "  tasks:\n"
        "    - name: a\n"
        "      script: \"printf 'loss\\\\n1\\\\n' > $SFLOW_TASK_OUTPUT_DIR/m.csv\"\n"
        "      outputs: [{csv: step, source: m.csv}, {json: rate, source: none.json}]\n"
        '    - {name: b, depends_on: a, script: "echo ${{ task.a.outputs.step }}"}\n'
    )
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 1
    no_column, no_file = 'no column "step"', "none.json: there is no such file in the task's directory"
    for told in (
        "warning: outputs of a: m.csv: ",
        "b failed (expression): ",
        "missing outputs of a: m.csv: ",
    ):
        (line,) = [one for one in done.stdout.split("\n") if told in one]
        assert no_column in line
    assert f"warning: outputs of a: {no_file}" in done.stdout
    assert "[Errno" not in done.stdout
    whole = json.loads((tmp_path / "sflow_output" / "r" / ".sflow" / "summary.json").read_text())
    first, second = next(task for task in whole["tasks"] if task["name"] == "a")["output_problems"]
    assert no_column in first
    assert second == no_file


RESULTS = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: quick
      script: ['echo "TTFT: 40.0 ms"; echo "TTFT: 42.5 ms"; echo "TTFT: never"']
      result: {ttft: 'TTFT: ([0-9.]+) ms'}
    - name: maker
      script: ["echo '{\\"rate\\": 7}' > $SFLOW_TASK_OUTPUT_DIR/my.json"]
      result: {file: my.json}
    - name: own
      script: ['echo "{\\"schema_version\\": \\"sflow.result.v1\\", \\"values\\": {\\"x\\": 1}}" > $SFLOW_TASK_RESULT_FILE']
      result: {file: result.json}
    - name: none
      script: ["true"]
      result: {patterns: [{name: missing, regex: never, required: true}]}
    - name: user
      depends_on: [quick, maker, own, none]
      script: ['cat $SFLOW_WORKFLOW_RESULT_FILE > all.json; echo "rate ${{ task.maker.outputs.rate }}"']
"""


def test_results_are_there_before_dependants_start_and_fail_nothing(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(RESULTS)
    run = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "[user] rate 7" in run.stdout
    assert "Required result 'missing' did not match any line" in run.stdout + run.stderr
    directory = tmp_path / "sflow_output/r"
    seen = json.loads((tmp_path / "all.json").read_bytes())
    assert seen == json.loads((directory / "results.json").read_bytes())
    assert (seen["schema_version"], seen["workflow"]) == ("sflow.results.v1", "r")
    assert {name: (one["ok"], one["values"]) for name, one in seen["tasks"].items()} == {
        "quick": (True, {"ttft": 42.5}),
        "maker": (True, {"rate": 7}),
        "own": (True, {"x": 1}),
        "none": (False, {}),
    }
    quick = json.loads((directory / "quick/result.json").read_bytes())
    assert [one["line"] for one in quick["matches"]["ttft"]] == [1, 2]
    table = (directory / ".sflow/results.csv").read_text().splitlines()
    assert table[0] == "task,state,attempts,runtime_s,ttft,rate,x"


def test_a_resume_keeps_the_results_of_completed_tasks(tmp_path: Path) -> None:
    text = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ['echo r=1'], result: {r: 'r=(.)'}}
    - {name: b, depends_on: [a], script: ['echo r=${{ task.a.outputs.r }}2; [ -e go ]'], result: {r: 'r=(.+)'}}
"""
    (tmp_path / "w.yaml").write_text(text)
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 1
    (tmp_path / "go").touch()
    run = sflow_ctl("run", "--resume", "sflow_output/r", cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    results = json.loads((tmp_path / "sflow_output/r/results.json").read_bytes())
    assert {name: one["values"] for name, one in results["tasks"].items()} == {"a": {"r": 1}, "b": {"r": 12}}


def test_public_08_values_of_a_file_that_an_earlier_attempt_wrote_are_reported(tmp_path: Path) -> None:
    first = (
        "cd $SFLOW_TASK_OUTPUT_DIR; test -e mark || { echo 1 | tee mark > r.csv; sed -i 1ia r.csv; exit 1; }"
    )
    tasks = "".join(
        f"    - {{name: {name}, retries: 1, script: ['{first}', '{then}'], outputs: [{{csv: a, source: r.csv}}]}}\n"
        for name, then in (("stale", "true"), ("fresh", "touch r.csv"))
    )
    (tmp_path / "w.yaml").write_text(f'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n{tasks}')
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    what = "r.csv: attempt 2 did not write it, so its values are an earlier attempt's"
    assert f"warning: outputs of stale: {what}" in done.stdout + done.stderr
    assert "outputs of fresh" not in done.stdout + done.stderr
    summary = json.loads((tmp_path / "sflow_output/r/.sflow/summary.json").read_text())
    assert {one["name"]: one["output_problems"] for one in summary["tasks"]} == {"stale": [what], "fresh": []}
