"""`args` of a task in real runs: what the program gets, and arguments that differ between cells."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.support import sflow_ctl

PROGRAM = (
    "import json, sys; print('ARGV ' + json.dumps(sys.argv[1:])); print('FILE ' + open('args.json').read())"
)
WORKFLOW = f"""version: "0.1"
variables: {{word: "it's $HOME"}}
sweep:
  axes: {{tasks.train.args.lr: [1e-4, 0.5], tasks.train.args.fast: [true, false]}}
workflow:
  name: w
  tasks:
    - name: train
      args: {{lr: 0, fast: false, what: "${{{{ word }}}}", layers: [1, 2], none: null, deep: {{a: [1]}}, "-v": 2}}
      args_json: args.json
      script: ["cd $SFLOW_TASK_FILES_DIR", "{sys.executable} -c \\"{PROGRAM}\\" ${{{{ args }}}}"]
"""


def printed(log: Path) -> tuple[list[str], Any]:
    lines = dict(
        line.split(" ", 1) for line in log.read_text().splitlines() if line[:5] in ("ARGV ", "FILE ")
    )
    return json.loads(lines["ARGV"]), json.loads(lines["FILE"])


def test_arguments_reach_the_program_as_written_and_differ_between_cells(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = sorted((tmp_path / "sflow_output" / "r").glob("train_*/train_*.log"))
    assert len(logs) == 4
    found = [printed(log) for log in logs]
    common = ["--what", "it's $HOME", "--layers", "1", "2", "--deep", '{"a":[1]}', "-v", "2"]
    expected = [["--lr", lr, *fast, *common] for lr in ("0.5", "1e-4") for fast in (["--fast"], [])]
    assert sorted(argv for argv, _ in found) == sorted(expected)
    assert all(file["what"] == "it's $HOME" and file["layers"] == [1, 2] for _, file in found)
    assert sorted((float(file["lr"]), file["fast"]) for _, file in found) == [
        (1e-4, False), (1e-4, True), (0.5, False), (0.5, True)
    ]  # fmt: skip


def test_a_misspelled_argument_of_a_sweep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("train.args.fast:", "train.args.fats:"))
    done = sflow_ctl("validate", "w.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert 'task "train" has no argument "fats" of its own; did you mean "fast"?' in done.stdout
