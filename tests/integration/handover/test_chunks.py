"""Whole runs with chunks of items: scripts and functions, items that fail, pairs, a late list, and runs that continue."""

from pathlib import Path

from tests.support import sflow_ctl

STEPS = """
import os

def square(number: int) -> int:
    with open("calls", "a") as file:
        file.write(f"{number}\\n")
    if number == 5 and not os.path.exists("repaired"):
        raise ValueError("this one fails")
    return number * number

def double(value: int) -> int:
    return value * 2

def numbers() -> list:
    return list(range(10))
"""
ONE_SHORT = """\
version: "0.1"
workflow:
  name: w
  outputs: {squares: square.outputs.value}
  tasks:
    square:
      foreach: {count: 10, chunk: 4, shuffle: true, chunk_parallel: 2}
      python: steps.py:square
      inputs: {number: {value: "${{ item }}", type: int}}
      outputs: {value: {type: int}}
      success: {min_ratio: 0.9}
"""
SCRIPT = """\
version: "0.1"
workflow:
  name: w
  outputs: {n: each.outputs.n, told: all.outputs.told}
  tasks:
    list:
      python: steps.py:numbers
      outputs: {names: {type: list}}
    each:
      foreach: {items: "${{ task.list.outputs.names }}", chunk: 4}
      script: |
        echo "{\\"n\\": $SFLOW_ITEM}" | sed 's/5/null/' > "$SFLOW_OUTPUTS_FILE"
        ! grep -q null "$SFLOW_OUTPUTS_FILE"
      outputs: {n: {type: int}}
      success: {min_count: 9}
    all:
      depends_on: [each]
      script: echo '{"told":"${{ task.each.outputs.n | join("-") }}"}' > "$SFLOW_OUTPUTS_FILE"
      outputs: {told: {type: str}}
"""
PAIRS = """\
version: "0.1"
workflow:
  name: w
  outputs: {doubles: double.outputs.value}
  tasks:
    square:
      foreach: {count: 5, chunk: 2, shuffle: {seed: 3}}
      python: steps.py:square
      inputs: {number: {value: "${{ item }}", type: int}}
      outputs: {value: {type: int}}
    double:
      foreach: {count: 5, chunk: 2, shuffle: {seed: 3}}
      python: steps.py:double
      inputs: {value: {from: square.outputs.value, type: int, items: same}}
      outputs: {value: {type: int}}
"""


def write(folder: Path, text: str) -> None:
    (folder / "w.yaml").write_text(text)
    (folder / "steps.py").write_text(STEPS)


def calls(folder: Path) -> list[int]:
    numbers = sorted(map(int, (folder / "calls").read_text().split()))
    (folder / "calls").unlink()
    return numbers


def test_an_item_that_fails_leaves_a_gap_and_only_it_is_repeated(tmp_path: Path) -> None:
    write(tmp_path, ONE_SHORT)
    done = sflow_ctl("run", "w.yaml", "--run-id", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "output squares: [0,1,4,9,16,null,36,49,64,81]" in done.stdout
    assert "3 of its 4 items have outputs" in done.stdout + done.stderr
    assert calls(tmp_path) == list(range(10))
    (tmp_path / "repaired").touch()
    again = sflow_ctl("rerun", "mine", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "output squares: [0,1,4,9,16,25,36,49,64,81]" in again.stdout
    assert calls(tmp_path) == [5]


def test_too_few_items_fail_the_run(tmp_path: Path) -> None:
    write(tmp_path, ONE_SHORT.replace("0.9", "0.95"))
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "only 9 of its 10 items could still complete, and 10 must" in done.stdout + done.stderr


def test_a_script_says_with_null_which_items_have_failed(tmp_path: Path) -> None:
    write(tmp_path, SCRIPT)
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "output n: [0,1,2,3,4,null,6,7,8,9]" in done.stdout
    assert "output told: 0-1-2-3-4-None-6-7-8-9" in done.stdout


def test_chunks_of_the_same_items_are_paired(tmp_path: Path) -> None:
    write(tmp_path, PAIRS)
    (tmp_path / "repaired").touch()
    done = sflow_ctl("run", "w.yaml", "--run-id", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "output doubles: [0,2,8,18,32]" in done.stdout
    reused = sflow_ctl("run", "w.yaml", "--reuse", "mine", cwd=tmp_path)
    assert reused.returncode == 0, reused.stdout + reused.stderr
    assert "output doubles: [0,2,8,18,32]" in reused.stdout
    assert calls(tmp_path) == [0, 1, 2, 3, 4]


def test_another_size_of_chunks_runs_the_items_again(tmp_path: Path) -> None:
    write(tmp_path, PAIRS)
    assert sflow_ctl("run", "w.yaml", "--run-id", "mine", cwd=tmp_path).returncode == 0
    assert calls(tmp_path) == [0, 1, 2, 3, 4]
    (tmp_path / "w.yaml").write_text(PAIRS.replace("chunk: 2", "chunk: 3"))
    again = sflow_ctl("rerun", "mine", "--file", "w.yaml", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "output doubles: [0,2,8,18,32]" in again.stdout
    assert calls(tmp_path) == [0, 1, 2, 3, 4]
