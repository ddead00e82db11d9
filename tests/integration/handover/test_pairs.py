"""Copies for items that wait for the copy of the same item of another task, with lists of the file and late ones."""

from pathlib import Path

import pytest

from tests.support import sflow_ctl

PIPELINE = """\
version: "0.1"
workflow:
  name: w
  outputs: {all: next.outputs.m}
  tasks:
    next:
      foreach: LIST
      inputs: {n: {from: each.outputs.n, type: int, items: same}}
      script: 'touch "$SFLOW_WORKSPACE_DIR/$SFLOW_ITEM"; echo "{\\"m\\": \\"$SFLOW_ITEM$INPUT_N\\"}" > "$SFLOW_OUTPUTS_FILE"'
      outputs: {m: {type: str}}
    each:
      foreach: LIST
      script: |
        [ "$SFLOW_ITEM" != y ] || until [ -e x ] && [ -e z ]; do sleep 0.02; done
        echo "{\\"n\\": $SFLOW_ITEM_INDEX}" > "$SFLOW_OUTPUTS_FILE"
      outputs: {n: {type: int}}
    list:
      script: echo '{"names":["x","y","z"]}' > "$SFLOW_OUTPUTS_FILE"
      outputs: {names: {type: list}}
"""


@pytest.mark.parametrize("items", ["[x, y, z]", "${{ task.list.outputs.names }}"])
def test_an_item_goes_on_while_another_one_is_not_done(tmp_path: Path, items: str) -> None:
    (tmp_path / "w.yaml").write_text(PIPELINE.replace("LIST", items))
    done = sflow_ctl("run", "w.yaml", "--run-id", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'output all: ["x0","y1","z2"]' in done.stdout
    again = sflow_ctl("rerun", "mine", "each_1", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "next_1 runs again: it needs each_1" in again.stdout + again.stderr
    assert "next_0 runs again" not in again.stdout + again.stderr


DEFAULTS = """\
version: "0.1"
workflow:
  name: w
  outputs: {all: next.outputs.m, list: all.outputs.list}
  tasks:
    each:
      foreach: [x, y, z]
      script: '[ "$SFLOW_ITEM" != y ] && echo "{\\"n\\": $SFLOW_ITEM_INDEX}" > "$SFLOW_OUTPUTS_FILE"'
      outputs: {n: {type: int}}
      success: {min_ratio: 0.6}
    next:
      foreach: [x, y, z]
      inputs: {n: {from: each.outputs.n, type: int, items: same, default: 7}}
      script: 'echo "{\\"m\\": $INPUT_N}" > "$SFLOW_OUTPUTS_FILE"'
      outputs: {m: {type: int}}
    all:
      inputs: {n: {from: each.outputs.n, type: list, default: []}}
      script: 'echo "{\\"list\\": $INPUT_N}" > "$SFLOW_OUTPUTS_FILE"'
      outputs: {list: {type: list}}
"""


def test_a_default_is_taken_where_the_partner_may_fail(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(DEFAULTS)
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "output all: [0,7,2]" in done.stdout
    assert "output list: [0,null,2]" in done.stdout


def test_where_too_few_complete_no_list_is_made(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(DEFAULTS.replace("0.6", "0.9"))
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "output list: (none)" in done.stdout
