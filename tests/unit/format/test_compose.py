"""Composed and resolved files mean what their sources mean."""

from pathlib import Path

from msgspec.structs import replace

from sflow_ctl.format.compose import compose
from sflow_ctl.format.loader import LoadedDocument, load_documents
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.pipeline import build_plan
from tests.unit.planner.planning import CONTEXT

TEXT = """
version: "0.1"
variables:
  A: {value: "7", type: integer}
  B: "${{ A * 2 }}"
  S: {value: 1, domain: [1, 2]}
  D: "${{ S + A }}"
  N:
    value:
artifacts:
backends: {pool: {type: local, nodes: "${{ A - 5 }}", gpus_per_node: 4}}
workflow:
  name: w
  variables: {HEAD: "${{ backends.pool.nodes[0].name }}:${{ A }}"}
  tasks:
    - name: a
      script: ["echo ${{ B }} ${{ S }} ${{ D }} ${{ HEAD }}", "{% raw %}${{ A }}{% endraw %}"]
      replicas: {variables: [S]}
      timeout: "${{ A }}"
    - name: b
      script: ["${{ A }} ${{ task.a[0].nodes[0].name }}"]
      variables: {A: 3}
"""


def load(folder: Path, text: str, *overrides: str) -> LoadedDocument:
    """A document of that text."""
    path = folder / "w.yaml"
    path.write_text(text)
    return load_documents([path], overrides)


def plan(folder: Path, text: str) -> Plan:
    """Its plan, without the lines at which tasks are."""
    made = build_plan(load(folder, text), CONTEXT)
    return replace(made, tasks=tuple(replace(task, where="") for task in made.tasks))


def test_a_composed_file_has_the_same_plan(tmp_path: Path) -> None:
    assert plan(tmp_path, compose(load(tmp_path, TEXT))) == plan(tmp_path, TEXT)


def test_a_resolved_file_has_the_same_plan(tmp_path: Path) -> None:
    assert plan(tmp_path, compose(load(tmp_path, TEXT), is_resolved=True)) == plan(tmp_path, TEXT)


def test_certain_values_are_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    text = compose(load(tmp_path, TEXT), is_resolved=True)
    assert "echo 14 ${{ S }} ${{ D }}" in text
    assert "${{ backends.pool.nodes[0].name }}:7" in text
    assert "timeout: 7" in text
    assert "nodes: 2" in text
    assert "${{ A }} ${{ task.a[0].nodes[0].name }}" in text  # the task has an A of its own
    assert "artifacts" not in text


def test_overrides_are_part_of_it(tmp_path: Path) -> None:
    composed = compose(load(tmp_path, TEXT, "A=9"))
    assert plan(tmp_path, composed).variables["B"] == 18


def test_texts_that_yaml_elsewhere_reads_as_numbers_stay_texts(tmp_path: Path) -> None:
    text = TEXT.replace("N:\n    value:", 'T: "12:00:00"\n  N:\n    value: |\n      two\n      lines\n')
    composed = compose(load(tmp_path, text))
    assert '"12:00:00"' in composed
    assert "value: |" in composed
    assert plan(tmp_path, composed) == plan(tmp_path, text)


def test_a_setting_that_is_null_stays_so(tmp_path: Path) -> None:
    """It means the default, whatever a site says."""
    file = tmp_path / "w.yaml"
    file.write_text(
        'version: "0.1"\nsettings: {interface: null}\nworkflow: {name: w, tasks: [{name: t, script: [x]}]}\n'
    )
    for is_resolved in (False, True):
        assert "settings:\n  interface: null\n" in compose(load_documents([file]), is_resolved)
