"""Attempts that continue from a checkpoint, in real runs: retries, resumed runs, reruns, and killed controllers."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Run, await_takeover, sflow_ctl, wait_until

TRAIN = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: train
      {policy}
      checkpoint: {checkpoint}
      script: |
        mkdir -p "$SFLOW_CHECKPOINT_DIR"
        n=${{SFLOW_CHECKPOINT_STEP:-0}}
        echo "attempt $SFLOW_ATTEMPT begins at $n from [$RESUME_FROM_CHECKPOINT] with [${{{{ checkpoint.args }}}}]"
        for i in 1 2 3; do n=$((n+1)); echo $n > "$SFLOW_CHECKPOINT_DIR/step_$n.pt"; done
        {end}
"""
KILLED = "[ $n -ge 6 ] || kill -9 $$"
WAITING = "until [ -e go ]; do sleep 0.05; done; [ $n -ge 6 ] || kill -9 $$"


def write(
    cwd: Path,
    *,
    policy: str = "retries: {count: 2, interval: 0.1s}",
    checkpoint: str = "{}",
    end: str = KILLED,
) -> str:
    text = TRAIN.format(policy=policy, checkpoint=checkpoint, end=end)
    (cwd / "w.yaml").write_text(text)
    return text


def log(cwd: Path) -> list[str]:
    """All attempts' lines, oldest first."""
    folder = cwd / "sflow_output/r/train"
    numbered = {
        int(match[1]): path
        for path in folder.glob("*.log")
        if (match := re.search(r"attempt-(\d+)", path.name))
    }
    paths = [*(numbered[number] for number in sorted(numbered)), folder / "train.log"]
    return [line for path in paths for line in path.read_text().splitlines()]


def choices(cwd: Path) -> list[tuple[int, str, int | None, str]]:
    """What attempts have continued from, as `status --json` has it."""
    status: Any = json.loads(sflow_ctl("status", "r", "--json", cwd=cwd).stdout)
    return [
        (one["attempt"], os.path.basename(one["path"]), one["step"], one["rule"])  # noqa: PTH119
        for one in status["tasks"][0]["checkpoints"]
    ]


@pytest.fixture
def started() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.kill()


def test_a_killed_task_continues_with_its_next_attempt(tmp_path: Path) -> None:
    write(tmp_path, checkpoint="{inject: {arg: --resume}}")
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "sflow_output/r/train/checkpoints/step_3.pt"
    assert log(tmp_path) == [
        "attempt 1 begins at 0 from [] with []",
        f"attempt 2 begins at 3 from [{path}] with [--resume {path}]",
    ]
    assert f"train#2 continues from {path} (step 3): it has the highest step" in done.stdout
    assert choices(tmp_path) == [(2, "step_3.pt", 3, "step")]
    shown = sflow_ctl("status", "r", "-v", cwd=tmp_path).stdout
    assert (
        f"train#2 continues from {path} (step 3): it has the highest step\n  2 others there: step_1.pt, step_2.pt"
        in shown
    )
    assert (
        f"attempt 2 continues from {path} (step 3)" in sflow_ctl("explain", "r", "train", cwd=tmp_path).stdout
    )
    assert "train#2 continues from" in sflow_ctl("events", "r", cwd=tmp_path).stdout


def test_resume_and_rerun_continue_and_fresh_does_not(tmp_path: Path) -> None:
    write(tmp_path, policy="retries: 0", end="[ $n -ge 9 ] || exit 3")
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 1
    assert sflow_ctl("run", "--resume", "r", cwd=tmp_path).returncode == 1
    assert sflow_ctl("rerun", "r", "train", "--fresh", cwd=tmp_path).returncode == 1
    assert sflow_ctl("rerun", "r", "train", cwd=tmp_path).returncode == 1
    begins = [line.split(" from")[0] for line in log(tmp_path)]
    assert begins == [
        "attempt 1 begins at 0", "attempt 2 begins at 3", "attempt 3 begins at 0", "attempt 4 begins at 3",
    ]  # fmt: skip
    done = sflow_ctl("rerun", "r", "train", "--checkpoint", "step_2.pt", cwd=tmp_path)
    assert done.returncode == 1
    assert log(tmp_path)[-1].startswith("attempt 5 begins at 2")
    assert choices(tmp_path) == [
        (2, "step_3.pt", 3, "step"), (3, "", None, "ignored"), (4, "step_3.pt", 3, "step"), (5, "step_2.pt", 2, "start"),
    ]  # fmt: skip
    for options, text in (
        (("--checkpoint", "x.pt"), "--checkpoint needs chosen tasks"),
        (("train", "--fresh", "--checkpoint", "x.pt"), "exclude each other"),
    ):
        refused = sflow_ctl("rerun", "r", *options, cwd=tmp_path)
        assert refused.returncode == 2
        assert text in refused.stderr
    missing = sflow_ctl("rerun", "r", "train", "--checkpoint", "step_99.pt", cwd=tmp_path)
    assert missing.returncode == 1
    assert "the checkpoint that it begins from does not exist" in missing.stdout + missing.stderr


def test_what_is_not_clear_ends_the_task_until_a_person_says_which(tmp_path: Path) -> None:
    end = (
        'for a in a b; do echo $a > "$SFLOW_CHECKPOINT_DIR/$a.pt"; done; '
        'rm -f "$SFLOW_CHECKPOINT_DIR"/step*; exit $((SFLOW_ATTEMPT < 3))'
    )
    write(tmp_path, end=end)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 1
    text = "which checkpoint it continues from is not clear: 2 candidates without a step in their names: a.pt, b.pt"
    assert text in done.stdout + done.stderr
    summary = json.loads((tmp_path / "sflow_output/r/.sflow/summary.json").read_text())
    (task,) = summary["tasks"]
    assert (task["state"], task["reason_word"], task["attempts"]) == ("failed", "input_error", 2)
    assert "--checkpoint PATH" in task["hint"]
    again = sflow_ctl("rerun", "r", "train", "--checkpoint", "b.pt", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert log(tmp_path)[-1].startswith(
        f"attempt 3 begins at 0 from [{tmp_path}/sflow_output/r/train/checkpoints/b.pt]"
    )


def test_cells_of_a_sweep_see_only_their_own(tmp_path: Path) -> None:
    text = write(tmp_path, end='[ "$LR" = 1 ] || [ $n -ge 6 ] || kill -9 $$')
    (tmp_path / "w.yaml").write_text(
        text.replace("workflow:", "variables: {LR: {value: 1}}\nsweep: {axes: {LR: [1, 2]}}\nworkflow:", 1)
    )
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    whole = json.loads((tmp_path / "sflow_output/r/.sflow/summary.json").read_text())
    found = {task["name"]: [one["path"] for one in task["checkpoints"]] for task in whole["tasks"]}
    assert found == {
        "train_LR-1": [], "train_LR-2": [f"{tmp_path}/sflow_output/r/train_LR-2/checkpoints/step_3.pt"],
    }  # fmt: skip


def test_a_killed_controller_changes_nothing(tmp_path: Path, started: list[Run]) -> None:
    text = write(tmp_path, end=WAITING)
    run = Run.start(text, tmp_path)
    started.append(run)
    run.wait_for("train", "running")
    run.kill_controller()
    await_takeover(run.directory)
    os.kill(run.pid_of("train"), signal.SIGKILL)
    wait_until(lambda: len(choices(tmp_path)) == 1, "the second attempt has begun")
    run.kill_controller()
    await_takeover(run.directory, 2)
    (tmp_path / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    assert choices(tmp_path) == [(2, "step_3.pt", 3, "step")]
    assert [line.split(" from")[0] for line in log(tmp_path)] == [
        "attempt 1 begins at 0",
        "attempt 2 begins at 3",
    ]


@pytest.mark.parametrize(
    ("checkpoint", "text"),
    [
        ("{dir: /data/x}", 'dir "/data/x" of the checkpoint of task "train" is absolute'),
        ("{dir: ../other}", "leads out of it"),
        ('{globs: ["../*.pt"]}', "leads out of it"),
        ("{state_file: /s.json}", "is absolute"),
        ('{step_regex: "("}', "is not a regular expression"),
        ('{step_regex: "a"}', "has no group for the digits"),
        ("{done_marker: DONE}", "is the same for all checkpoints"),
        ('{done_marker: "{file}.done"}', "has {file}"),
        ("{inject: 9X}", "cannot be the name of a variable"),
        ("{inject: SFLOW_X}", "is a reserved name"),
        ("{globs: []}", "has no patterns"),
        ("{resume: {after: never}}", "retry"),
        ("{dirs: x}", "dir"),
    ],
)
def test_wrong_rules_are_refused(tmp_path: Path, checkpoint: str, text: str) -> None:
    write(tmp_path, checkpoint=checkpoint)
    done = sflow_ctl("validate", "w.yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert text in done.stdout + done.stderr
    assert re.search(r"w\.yaml:\d+", done.stdout + done.stderr)


def test_rules_that_need_a_checkpoint_fail_without_one(tmp_path: Path) -> None:
    write(tmp_path, checkpoint="{dir: other, resume: require}", end='rm -r "$SFLOW_CHECKPOINT_DIR"; exit 3')
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 1
    assert "it has no checkpoint to continue from" in done.stdout + done.stderr
    (tmp_path / "base.pt").write_text("x")
    write(tmp_path, checkpoint="{resume: base.pt}", end="true")
    done = sflow_ctl("run", "w.yaml", "--run-id", "r2", cwd=tmp_path)
    assert done.returncode == 0
    assert (
        f"attempt 1 begins at 0 from [{tmp_path}/base.pt]"
        in (tmp_path / "sflow_output/r2/train/train.log").read_text()
    )
