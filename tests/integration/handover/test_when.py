"""Branches of a run that depend on values: which tasks run, which are skipped with which words, and where branches meet."""

import json
from pathlib import Path

from tests.support import sflow_ctl

WORKFLOW = """version: "0.1"
variables: {mode: full}
workflow:
  name: w
  tasks:
    check: {script: ['echo "{\\"score\\": $SCORE}" > $SFLOW_OUTPUTS_FILE'], outputs: {score: {type: float}}}
    good:
      inputs: {score: {from: check.outputs.score}}
      when: ${{ inputs.score > 0.9 and variables.mode == "full" }}
      script: ['echo good > "$SFLOW_TASK_OUTPUT_DIR/x"']
      outputs: {o: {path: x}}
    bad:
      depends_on: [{task: check, until: completed}]
      when: ${{ task.check.outputs.score <= 0.9 }}
      script: ['echo bad > "$SFLOW_TASK_OUTPUT_DIR/x"']
      outputs: {o: {path: x}}
    after: {script: ["true"], depends_on: [good]}
    merge:
      inputs: {m: {from: [good.outputs.o, bad.outputs.o], pick: first_available}}
      script: ['cp "$INPUT_M" merged']
    asked:
      inputs: {m: {from: good.outputs.o, default: none}}
      script: ['echo "[$INPUT_M]" > asked']
"""


def states(cwd: Path) -> dict[str, tuple[str, str]]:
    status = json.loads(sflow_ctl("status", "r", "--json", cwd=cwd).stdout)
    return {one["name"]: (one["state"], one["reason_word"]) for one in status["tasks"]}


def run(cwd: Path, score: str) -> str:
    (cwd / "w.yaml").write_text(WORKFLOW)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=cwd, env={"SCORE": score})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_branch_runs_and_both_meet_again(tmp_path: Path) -> None:
    run(tmp_path, "0.95")
    assert states(tmp_path)["good"][0] == "completed"
    assert states(tmp_path)["bad"] == ("skipped", "when")
    assert (tmp_path / "merged").read_text() == "good\n"
    assert (tmp_path / "asked").read_text() == f"[{tmp_path}/sflow_output/r/good/x]\n"


def test_the_other_branch_skips_what_needs_the_first(tmp_path: Path) -> None:
    run(tmp_path, "0.3")
    assert states(tmp_path)["good"] == ("skipped", "when")
    assert states(tmp_path)["after"] == ("skipped", "upstream_skipped")
    assert (tmp_path / "merged").read_text() == "bad\n"
    assert (tmp_path / "asked").read_text() == "[none]\n"
    said = sflow_ctl("explain", "good", "after", cwd=tmp_path).stdout
    assert 'is false: inputs.score is 0.3, variables.mode is "full"' in said
    assert "upstream_skipped: needs good, which is skipped" in said


def test_a_resumed_run_decides_again_and_keeps_what_is_done(tmp_path: Path) -> None:
    text = WORKFLOW.replace("'cp \"$INPUT_M\" merged'", "'[ -e ok ] && cp \"$INPUT_M\" merged'")
    (tmp_path / "w.yaml").write_text(text)
    first = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path, env={"SCORE": "0.3"})
    assert first.returncode == 1, first.stdout
    (tmp_path / "ok").touch()
    done = sflow_ctl("run", "--resume", "sflow_output/r", cwd=tmp_path, env={"SCORE": "0.3"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "merged").read_text() == "bad\n"
    assert states(tmp_path)["good"] == ("skipped", "when")
