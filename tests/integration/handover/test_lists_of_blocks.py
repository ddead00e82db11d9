"""Lists that are known late: numbers that are outputs, and inputs of a block, which itself is run for each item of a list."""

from pathlib import Path

import pytest

from tests.support import sflow_ctl

NESTED = """\
version: "0.1"
workflow:
  name: nested
  outputs: {all: outer.outputs.values}
  blocks:
    inner:
      inputs: {n: int, names: {type: list, default: [x]}}
      outputs: {values: "${{ task.each.outputs.v }}"}
      tasks:
        each:
          foreach: ITEMS
          script: 'echo "{\\"v\\": \\"$SFLOW_ITEM\\"}" > "$SFLOW_OUTPUTS_FILE"'
          outputs: {v: {type: str}}
  tasks:
    size:
      script: echo '{"n":2}' > "$SFLOW_OUTPUTS_FILE"
      outputs: {n: {type: int}}
    outer:
      block: inner
      foreach: {count: "${{ task.size.outputs.n }}"}
      with: {n: "${{ item + 1 }}", names: ["${{ item }}", last]}
"""


@pytest.mark.parametrize(
    ("items", "values"),
    [
        ('{count: "${{ block.inputs.n }}"}', '[["0"],["0","1"]]'),
        ('"${{ range(block.inputs.n) }}"', '[["0"],["0","1"]]'),
        ('"${{ block.inputs.names }}"', '[["0","last"],["1","last"]]'),
        ("[q]", '[["q"],["q"]]'),
    ],
)
def test_a_block_fans_out_over_what_it_is_given(tmp_path: Path, items: str, values: str) -> None:
    (tmp_path / "w.yaml").write_text(NESTED.replace("ITEMS", items))
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"output all: {values}" in done.stdout
