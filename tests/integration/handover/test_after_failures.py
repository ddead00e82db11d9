"""What waits for a failure runs although the run ends: also with a condition, for a list, as a block that is repeated."""

import json
from pathlib import Path

import pytest

from tests.support import sflow_ctl

WORKFLOW = """version: "0.1"
workflow:
  name: w
  blocks:
    inner:
      inputs: {n: int}
      outputs: {n: "${{ block.inputs.n + 1 }}"}
      tasks:
        a: {script: "true"}
        b:
          depends_on: a
          foreach: ${{ range(block.inputs.n + 1) | list }}
          script: 'true'
  tasks:
    ok: {script: 'echo "{\\"n\\": 2}" > $SFLOW_OUTPUTS_FILE', outputs: {n: {type: int}}}
    fails: {depends_on: ok, on_failure: HOW, script: 'exit 1'}
    notify:
      depends_on: [{task: fails, until: failed}]
      when: ${{ task.ok.outputs.n > 0 }}
      script: 'true'
    other:
      depends_on: [{task: fails, until: failed}]
      when: ${{ task.ok.outputs.n > 7 }}
      script: 'true'
    each:
      depends_on: [{task: fails, until: finished}]
      foreach: ${{ range(task.ok.outputs.n) | list }}
      script: 'true'
    report:
      depends_on: [{task: fails, until: finished}]
      block: inner
      with: {n: 0}
      loop: {max_iterations: 2, carry: {n: "${{ last.outputs.n }}"}}
    after: {depends_on: [report, each], script: 'echo after ${{ task.report.outputs.n }}'}
    unrelated: {depends_on: fails, script: 'true'}
"""


@pytest.mark.parametrize("how", ["cancel", "drain"])
def test_what_waits_for_a_failure_runs_whatever_it_stands_for(tmp_path: Path, how: str) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("HOW", how))
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "[after] after 2" in done.stdout
    found = json.loads(sflow_ctl("status", "r", "--json", cwd=tmp_path).stdout)["tasks"]
    states = {one["name"]: one["state"] for one in found}
    assert states.pop("fails") == "failed"
    assert states.pop("other") == "skipped"
    assert states.pop("unrelated") in ("cancelled", "skipped")
    assert set(states.values()) == {"completed"}, states
    assert {"each_1", "report_0.b_0", "report_1.b_1", "notify"} <= set(states)
