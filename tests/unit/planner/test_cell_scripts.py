"""Scripts of cells written from pieces are those that planning each cell by itself gives, and so is everything else."""

from pathlib import Path
from typing import Any

import pytest

from sflow_ctl.planner.tasks.copies import EqualCopies
from tests.unit.planner.planning import plan_of

HEAD = """\
variables: {lr: {value: 0.1, type: float}, n: 1, name: a, items: [1], task_id: 3}
sweep: {axes: {lr: [1e-3, 0.5], n: [1, 2], name: ["a b", "$c"]}}
workflow:
  name: cells
  tasks:
    - name: prepare
      script: [echo]
"""
COMPUTED = HEAD.replace("task_id: 3", "task_id: '${{ n + 1 }}'")
SCRIPTS = [
    "train --lr ${{ lr }} --n ${{ variables.n }}",
    "${{ n }}",
    "x ${{ n + 1 }} ${{ n * lr }} ${{ sweep.label }} ${{ sweep.values.lr }} ${{ name }}",
    "x ${{ task_id }} ${{ lr }}",
    "x ${{ lr | round(2) }}",
    "x ${{ name + 1 if false else n }}",
    "x ${{ task.prepare.nodes[0].name }} ${{ lr }}",
    "x ${{ replica.index }}",
    "SFLOW_MASTER_PORT ${{ n }}",
    "{% raw %}${{ n }}{% endraw %} ${{ n }}",
]
MORE = [
    "",
    "strict: true",
    "replicas: 2",
    "operator: o",
    "timeout: ${{ n }}",
    "variables: {n: 7}",
    "files: {a: '${{ lr }}'}",
]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("more", MORE)
def test_cells_are_planned_as_each_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, more: str
) -> None:
    text = f"{HEAD}    - name: train\n      depends_on: prepare\n      script: ['{script}', 'echo ${{{{ lr }}}}']\n"
    text += f"      {more}\n" if more else ""
    text += "operators: {o: {type: bash, strict: true}}\n" if "operator" in more else ""
    quick = plan_of(tmp_path, text)
    monkeypatch.setattr(EqualCopies, "_differ_in_script", lambda *_: False)
    slow = plan_of(tmp_path, text)
    assert list(quick.tasks) == list(slow.tasks)
    assert quick == slow


@pytest.mark.parametrize("script", ["x ${{ task_id }} ${{ n }}", "x ${{ n }}"])
def test_variables_that_are_computed_from_swept_ones_are_those_of_the_cell(
    tmp_path: Path, script: str
) -> None:
    plan = plan_of(tmp_path, f"{COMPUTED}    - name: train\n      script: ['{script}']\n")
    found = {(task.script, task.environment["task_id"]) for task in plan.tasks if task.base == "train"}
    has_both = "task_id" in script
    assert found == {(f"x {n + 1} {n}" if has_both else f"x {n}", str(n + 1)) for n in (1, 2)}


def test_a_script_with_swept_values_alone_is_written_and_not_planned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[str] = []
    learn = EqualCopies.learn

    def counted(copies: EqualCopies, placed: Any, task: Any) -> None:
        planned.append(task.name)
        learn(copies, placed, task)

    monkeypatch.setattr(EqualCopies, "learn", counted)
    plan_of(tmp_path, f"{HEAD}    - name: train\n      script: ['x ${{{{ lr }}}} ${{{{ variables.n }}}}']\n")
    assert len([name for name in planned if name.startswith("train")]) == 1
