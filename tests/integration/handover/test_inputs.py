"""Tasks that are given outputs of others: what they get, and which task fails with which words when something is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import sflow_ctl

HEAD = 'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n'
TRAIN = """
    train:
      script: |
        cd "$SFLOW_TASK_OUTPUT_DIR"; mkdir -p ckpt
        for step in 1 2 10; do echo "weights $step" > ckpt/step_$step.pt; done
        echo '{"val": {"loss": 0.25}}' > m.json
        echo '{"n": 3, "words": ["a b", "c"]}' > "$SFLOW_OUTPUTS_FILE"
      outputs:
        ckpt: {path: "ckpt/*.pt"}
        loss: {kind: metric, path: m.json, json: val.loss}
        n: {type: int}
        words: {type: list}
        extra: {path: extra.txt, required: false}
        size: {kind: param, path: size.txt, type: int, default: 7}
"""


def run(cwd: Path, tasks: str, *options: str, status: int = 0) -> str:
    (cwd / "w.yaml").write_text(HEAD + tasks)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", *options, cwd=cwd)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def task_of(cwd: Path, name: str) -> dict[str, Any]:
    status = json.loads(sflow_ctl("status", "r", "--json", cwd=cwd).stdout)
    return next(one for one in status["tasks"] if one["name"] == name)


def test_a_task_is_given_files_and_values_in_every_way(tmp_path: Path) -> None:
    run(
        tmp_path,
        TRAIN
        + """
    eval:
      inputs:
        ckpt: {from: train.outputs.ckpt, type: path, env: CKPT, arg: --ckpt}
        n: {from: train.outputs.n, type: int}
        words: {from: train.outputs.words, arg: --words}
        extra: {from: train.outputs.extra, required: false, arg: --extra}
        size: {from: train.outputs.size, type: int}
        lr: 0.1
      script:
        - printf '[%s]' ${{ inputs.args }} > given
        - echo "${{ inputs.n + 1 }} $INPUT_LR $INPUT_SIZE [$INPUT_EXTRA] ${{ task.train.outputs.loss }}" >> given
        - cat "$CKPT" >> given; cp "$SFLOW_INPUTS_FILE" inputs.json
""",
    )
    directory = tmp_path / "sflow_output/r/train"
    first, last = (tmp_path / "given").read_text().splitlines()
    assert first == f"[--ckpt][{directory}/ckpt/step_10.pt][--words][a b][c]4 0.1 7 [] 0.25"
    assert last == "weights 10"
    document = json.loads((tmp_path / "inputs.json").read_text())
    assert document["values"]["words"] == ["a b", "c"]
    assert document["inputs"]["size"] == {
        "from": "train.outputs.size",
        "is_default": True,
        "is_absent": False,
    }
    assert document["inputs"]["extra"] == {"from": "nothing", "is_default": False, "is_absent": True}
    assert len(document["inputs"]["ckpt"]["sha256"]) == 64
    columns = (tmp_path / "sflow_output/r/.sflow/results.csv").read_text().splitlines()[0]
    assert columns == "task,state,attempts,runtime_s,loss,n,words,size"


def test_a_required_output_that_is_missing_fails_its_task(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
    train: {script: ["true"], outputs: {ckpt: {path: "*.pt"}}}
    eval: {script: ["true"], inputs: {ckpt: {from: train.outputs.ckpt}}}
""",
        status=1,
    )
    directory = tmp_path / "sflow_output/r/train"
    assert f"its output ckpt is missing: no file matches *.pt in {directory}" in said
    assert task_of(tmp_path, "train")["reason_word"] == "output_missing"


def test_a_file_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
    train: {script: ['echo one > "$SFLOW_TASK_OUTPUT_DIR/a.pt"'], outputs: {ckpt: {path: a.pt}}}
    spoil: {script: ['echo two > "$SFLOW_WORKFLOW_OUTPUT_DIR/train/a.pt"'], depends_on: [train]}
    eval: {script: ["true"], depends_on: [spoil], inputs: {ckpt: {from: train.outputs.ckpt}}}
""",
        status=1,
    )
    path = tmp_path / "sflow_output/r/train/a.pt"
    assert f"its input ckpt (from train.outputs.ckpt) has changed: the SHA-256 of {path} is " in said
    assert task_of(tmp_path, "eval")["reason_word"] == "input_error"


def test_a_kept_copy_does_not_change_with_its_file(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
    train: {script: ['echo one > "$SFLOW_TASK_OUTPUT_DIR/a.pt"'], outputs: {ckpt: {path: a.pt, store: copy}}}
    spoil: {script: ['echo two > "$SFLOW_WORKFLOW_OUTPUT_DIR/train/a.pt"'], depends_on: [train]}
    eval: {script: ["cat $INPUT_CKPT > got"], depends_on: [spoil], inputs: {ckpt: {from: train.outputs.ckpt}}}
""",
    )
    assert (tmp_path / "got").read_text() == "one\n"


@pytest.mark.parametrize("stage", ["copy", "link"])
def test_a_staged_file_is_in_the_directory_of_the_task(tmp_path: Path, stage: str) -> None:
    run(
        tmp_path,
        f"""
    train: {{script: ['echo one > "$SFLOW_TASK_OUTPUT_DIR/a.pt"'], outputs: {{ckpt: {{path: a.pt}}}}}}
    eval:
      script: ["echo $INPUT_CKPT > got", "echo two >> $INPUT_CKPT"]
      inputs: {{ckpt: {{from: train.outputs.ckpt, stage: {stage}}}}}
""",
    )
    directory = tmp_path / "sflow_output/r"
    assert (tmp_path / "got").read_text().strip() == f"{directory}/eval/.sflow_inputs/ckpt/a.pt"
    assert (directory / "train/a.pt").read_text() == ("one\n" if stage == "copy" else "one\ntwo\n")


def test_outputs_of_replicas_are_a_list_in_their_order(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
    part:
      replicas: 3
      script: ['echo "{\\"n\\": $SFLOW_REPLICA_INDEX}" > $SFLOW_OUTPUTS_FILE']
      outputs: {n: {type: int}}
    sum:
      script: ["echo '${{ inputs.all | sum }} ${{ inputs.all }}' > got"]
      inputs: {all: {from: part.outputs.n, type: int}}
""",
    )
    assert (tmp_path / "got").read_text() == "3 [0, 1, 2]\n"


def test_cells_of_a_sweep_are_given_their_own(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nvariables: {lr: 0.1}\nsweep: {axes: {lr: [1, 2]}}\nworkflow:\n  name: w\n  tasks:\n'
        "    train:\n      script: ['echo $lr > \"$SFLOW_TASK_OUTPUT_DIR/a.pt\"']\n      outputs: {c: {path: a.pt}}\n"
        "    eval:\n      script: ['cp $INPUT_C got-$lr']\n      inputs: {c: {from: train.outputs.c}}\n"
    )
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(tmp_path / f"got-{lr}").read_text() for lr in (1, 2)] == ["1\n", "2\n"]


def test_files_of_an_earlier_attempt_are_not_handed_over(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
    train:
      retries: {count: 1, interval: 0.1s}
      script: ['[ $SFLOW_ATTEMPT = 2 ] || { touch "$SFLOW_TASK_OUTPUT_DIR/step_9.pt"; exit 1; }']
      outputs: {ckpt: {path: "*.pt"}}
""",
        status=1,
    )
    assert "what is older than the attempt: step_9.pt" in said


def test_an_external_file_must_exist_on_the_node(tmp_path: Path) -> None:
    said = run(tmp_path, '    eval: {script: ["true"], inputs: {data: {path: no/such.bin}}}\n', status=1)
    assert f"its input data (from the file) is not there: {tmp_path}/no/such.bin" in said


def test_a_produced_value_of_another_type_fails_at_run_time(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
    train: {script: ["echo '{\\"n\\": \\"many\\"}' > $SFLOW_OUTPUTS_FILE"], outputs: {n: {type: int}}}
""",
        status=1,
    )
    assert "its output n: wanted int, got str 'many', in $SFLOW_OUTPUTS_FILE" in said
    assert task_of(tmp_path, "train")["reason_word"] == "output_error"
