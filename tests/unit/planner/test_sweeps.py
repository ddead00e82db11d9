"""Plans with sweeps: which tasks they have, what these wait for, and what each sees of its cell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import FleetError
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.planner.tasks.copies import EqualCopies
from sflow_ctl.runtime.record.plan_file import decode_plan, encode_plan
from tests.unit.planner.planning import plan_of

VARIABLES = "variables: {lr: 0.1, wd: {type: float, value: 0}, layers: 2, double: '${{ layers * 2 }}'}\n"
PIPELINE = """\
workflow:
  name: w
  tasks:
    - {name: train, script: [train]}
    - {name: eval, depends_on: [train], script: ["eval ${{ layers }}"]}
    - {name: report, sweep: false, depends_on: [eval], script: [report]}
"""


def named(plan: Plan) -> dict[str, PlannedTask]:
    return {task.name: task for task in plan.tasks}


def waits(plan: Plan) -> Mapping[str, list[str]]:
    return {
        task.name: [f"{d.task}{'*' if d.is_group else ''}" for d in task.depends_on] for task in plan.tasks
    }


def codes(folder: Path, text: str, **context: Any) -> list[str]:
    try:
        plan_of(folder, text, **context)
    except FleetError as error:
        return [one.code for one in error.findings]
    return []


def test_edges_between_swept_tasks_join_the_same_cell(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{VARIABLES}sweep: {{axes: {{lr: [1e-3, 0.5]}}}}\n{PIPELINE}")
    assert waits(plan) == {
        "train_lr-1e-3": [],
        "eval_lr-1e-3": ["train_lr-1e-3"],
        "train_lr-0.5": [],
        "eval_lr-0.5": ["train_lr-0.5"],
        "report": ["eval*"],
    }
    assert {task.on_failure for task in plan.tasks if task.cell is not None} == {"isolate"}
    assert named(plan)["report"].on_failure == "cancel"


def test_a_cell_sees_its_values_in_expressions_and_in_the_environment(tmp_path: Path) -> None:
    text = f"""{VARIABLES}
sweep:
  axes: {{lr: [1e-3]}}
  cases: [{{name: big, set: {{layers: 48}}, axes: {{wd: [0, 0.5]}}}}]
workflow:
  name: w
  tasks:
    - name: t
      script: ["${{{{ sweep.case }}}} ${{{{ sweep.index }}}} ${{{{ sweep.values.wd }}}} ${{{{ lr }}}} ${{{{ double }}}}"]
"""
    plan = plan_of(tmp_path, text)
    first, second = plan.tasks
    assert [task.script for task in plan.tasks] == ["big 0 0.0 1e-3 96", "big 1 0.5 1e-3 96"]
    env = second.environment
    assert (env["lr"], env["wd"], env["layers"], env["double"]) == ("1e-3", "0.5", "48", "96")
    assert (env["SFLOW_SWEEP_CASE"], env["SFLOW_SWEEP_INDEX"]) == ("big", "1")
    assert env["SFLOW_SWEEP_LABEL"] == "big_lr-1e-3_wd-0.5"
    assert env["SFLOW_SWEEP_VALUES"] == '{"layers":48,"lr":1e-3,"wd":0.5}'
    assert first.cell is not None
    assert env["SFLOW_SWEEP_ID"] != first.cell.id


def test_another_value_renames_nothing_and_changes_no_identity(tmp_path: Path) -> None:
    few = plan_of(tmp_path, f"{VARIABLES}sweep: {{axes: {{lr: [0.5, 2]}}}}\n{PIPELINE}")
    more = plan_of(tmp_path, f"{VARIABLES}sweep: {{axes: {{lr: [7, 0.5, 1, 2]}}}}\n{PIPELINE}")
    ids = {task.name: task.cell.id for task in few.tasks if task.cell is not None}
    assert ids.items() <= {task.name: task.cell.id for task in more.tasks if task.cell is not None}.items()


def test_equal_cells_are_refused_with_both_origins(tmp_path: Path) -> None:
    cases = "[{name: a, set: {layers: 1}, axes: {lr: [1, 2]}}, {name: b, set: {lr: 2, layers: 1}}]"
    text = f"variables: {{lr: 0, layers: {{type: integer, value: 0}}}}\nsweep: {{cases: {cases}}}\n{PIPELINE}"
    with pytest.raises(FleetError) as caught:
        plan_of(tmp_path, text)
    (finding,) = caught.value.findings
    assert finding.code == "equal-cells"
    assert 'case "a"' in finding.what
    assert 'case "b"' in finding.what
    assert finding.what.count("w.yaml:3:") == 2
    assert codes(tmp_path, f"{VARIABLES}sweep: {{axes: {{lr: [0.5, 5e-1]}}}}\n{PIPELINE}") == ["equal-cells"]


def test_fewer_cells_than_there_are_is_said_or_refused(tmp_path: Path) -> None:
    sweep = "axes: {lr: [1, 2, 3], wd: [4, 5]}, max_runs: 5"
    plan = plan_of(tmp_path, f"{VARIABLES}sweep: {{{sweep}}}\n{PIPELINE}")
    (warning,) = plan.warnings
    assert warning.code == "sweep-truncated"
    assert "5 of 6 cells" in warning.what
    assert (plan.sweeps[0].cells, plan.sweeps[0].total) == (5, 6)
    assert len(plan.tasks) == 11
    refused = f"{VARIABLES}sweep: {{{sweep}, on_overflow: error}}\n{PIPELINE}"
    assert codes(tmp_path, refused) == ["sweep-overflow"]


def test_a_million_cells_are_refused_or_truncated_without_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = EqualCopies.like

    def like(self: EqualCopies, *rest: Any) -> Any:
        made.append(rest)
        return real(self, *rest)

    monkeypatch.setattr(EqualCopies, "like", like)
    thousand = list(range(1000))
    axes = f"axes: {{lr: {thousand}, wd: {thousand}}}"
    assert codes(tmp_path, f"{VARIABLES}sweep: {{{axes}}}\n{PIPELINE}") == ["sweep-size"]
    assert not made
    assert len(plan_of(tmp_path, f"{VARIABLES}sweep: {{{axes}, max_runs: 3}}\n{PIPELINE}").tasks) == 7
    assert len(made) == 7


def test_a_field_of_a_task_differs_between_cells(tmp_path: Path) -> None:
    text = f"""{VARIABLES}
sweep:
  cases:
    - {{name: small, set: {{tasks.train.resources.gpus: 1}}}}
    - {{name: large, set: {{tasks.train.resources.gpus.count: 4, tasks.train.timeout: 1h, tasks.train.retries: 2}}}}
{PIPELINE}"""
    plan = named(plan_of(tmp_path, text, nodes_override=1, gpus_per_node_override=8))
    small, large = plan["train_small"], plan["train_large"]
    assert (small.placement.gpus_per_node, large.placement.gpus_per_node) == (1, 4)
    assert (small.timeout_s, large.timeout_s) == (None, 3600.0)
    assert large.retries.count == 2
    assert dict(large.sweep)["tasks.train.timeout"] == "1h"
    assert plan["eval_large"].timeout_s is None


def test_a_wrong_value_for_a_field_names_the_path(tmp_path: Path) -> None:
    text = f"{VARIABLES}sweep: {{axes: {{tasks.train.retries.count: [[1]]}}}}\n{PIPELINE}"
    with pytest.raises(FleetError) as caught:
        plan_of(tmp_path, text)
    assert "tasks.train.retries.count" in caught.value.findings[0].what


def test_a_service_without_swept_values_runs_once(tmp_path: Path) -> None:
    text = f"""{VARIABLES}
sweep: {{axes: {{lr: [1, 2]}}}}
workflow:
  name: w
  tasks:
    - {{name: shared, kind: service, script: [serve]}}
    - {{name: own, kind: service, script: ["serve $double --rate $lr"]}}
    - {{name: behind, kind: service, depends_on: [own], script: [serve]}}
    - {{name: forced, kind: service, sweep: true, script: [serve]}}
    - {{name: client, depends_on: [shared, own, behind, forced], script: [work]}}
"""
    plan = plan_of(tmp_path, text)
    assert [task.name for task in plan.tasks if task.cell is None] == ["shared"]
    assert waits(plan)["client_lr-2"] == ["own_lr-2", "behind_lr-2", "forced_lr-2", "shared"]
    assert any('"shared" uses no swept value' in note.what for note in plan.notes)


def test_another_task_of_the_cell_is_the_one_that_expressions_name(tmp_path: Path) -> None:
    text = f"""{VARIABLES}
sweep: {{axes: {{lr: [1, 2]}}}}
workflow:
  name: w
  tasks:
    - {{name: server, kind: service, script: ["serve $lr"], ports: {{http: 1}}}}
    - name: client
      depends_on: [server]
      script: ["curl ${{{{ task.server.endpoint.http }}}} ${{{{ task['server'].backend }}}} # task.server stays"]
      probes: {{failure: {{log_watch: {{logger: server, match_pattern: FATAL}}}}}}
    - {{name: all, sweep: false, depends_on: [client], script: ["${{{{ task.client | length }}}}"]}}
"""
    plan = named(plan_of(tmp_path, text))
    client = plan["client_lr-2"]
    assert client.script == 'curl ${{ task["server_lr-2"].endpoint.http }} local # task.server stays'
    assert client.deferred[0].uses_ports == ("server_lr-2",)
    assert [check.task for probe in client.probes for check in probe.all_checks] == ["server_lr-2"]  # type: ignore[union-attr]
    assert plan["all"].script == "2"


def test_replicas_inside_a_cell_are_waited_for_inside_it(tmp_path: Path) -> None:
    text = f"""{VARIABLES}
sweep: {{axes: {{layers: [1, 2]}}}}
workflow:
  name: w
  tasks:
    - {{name: part, replicas: {{count: "${{{{ layers }}}}"}}, script: [work]}}
    - {{name: chain, replicas: {{count: 2, policy: sequential}}, depends_on: [part], script: [work]}}
    - {{name: join, depends_on: [chain], script: [work]}}
"""
    found = waits(plan_of(tmp_path, text))
    assert found["chain_layers-1_0"] == ["part_layers-1_0"]
    assert found["chain_layers-2_0"] == ["part_layers-2_0", "part_layers-2_1"]
    assert found["chain_layers-2_1"] == ["chain_layers-2_0"]
    assert found["join_layers-2"] == ["chain_layers-2_1"]


def test_a_sweep_of_one_task_leaves_the_others_alone(tmp_path: Path) -> None:
    text = f"""{VARIABLES}
workflow:
  name: w
  tasks:
    - {{name: train, sweep: {{axes: {{lr: [1, 2]}}}}, script: [train]}}
    - {{name: eval, depends_on: [train], script: [eval]}}
"""
    plan = plan_of(tmp_path, text)
    assert waits(plan) == {"train_lr-1": [], "train_lr-2": [], "eval": ["train*"]}
    assert plan.sweeps[0].owner == "train"


def test_all_cells_can_be_waited_for_unless_they_cannot_all_run(tmp_path: Path) -> None:
    text = """
workflow:
  name: w
  tasks:
    - {name: train, script: [train]}
    - {name: vote, depends_on: [{task: train, cells: all}], script: ["${{ task.train | length }}"]}
"""
    sweep = "axes: {lr: [1, 2]}"
    plan = plan_of(tmp_path, f"{VARIABLES}sweep: {{{sweep}}}{text}")
    assert waits(plan)["vote_lr-1"] == ["train*"]
    assert named(plan)["vote_lr-1"].script == "2"
    assert codes(tmp_path, f"{VARIABLES}sweep: {{{sweep}, max_parallel: 1}}{text}") == ["never-runs"]


def test_services_with_gpus_in_each_cell_run_one_cell_at_a_time(tmp_path: Path) -> None:
    text = """
workflow:
  name: w
  tasks:
    - {name: server, kind: service, resources: {gpus: {count: 4}}, script: ["serve $lr"]}
    - {name: client, depends_on: [server], resources: {gpus: {count: 4}}, script: [work]}
"""
    sweep = "axes: {lr: [1, 2, 3]}"
    node = {"nodes_override": 1, "gpus_per_node_override": 8}
    assert plan_of(tmp_path, f"{VARIABLES}sweep: {{{sweep}}}{text}", **node).sweeps[0].max_parallel == 1
    many = f"{VARIABLES}sweep: {{{sweep}, max_parallel: 3}}{text}"
    assert codes(tmp_path, many, **node) == ["gpus-do-not-fit"]


def test_a_derived_copy_is_what_planning_it_would_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"variables: {{lr: 0, wd: 1}}\nsweep: {{axes: {{lr: [1, 2], wd: [3]}}}}\n{PIPELINE.replace('layers', 'lr')}"
    derived = plan_of(tmp_path, text)
    with monkeypatch.context() as patch:
        patch.setattr(EqualCopies, "like", lambda *_: None)
        assert list(plan_of(tmp_path, text).tasks) == list(derived.tasks)
    assert list(decode_plan(b"".join(encode_plan(derived))).tasks) == list(derived.tasks)


WRONG = {
    "{}": "empty-sweep",
    "{axes: {}}": "empty-sweep",
    "{axes: {lr: []}}": "empty-axis",
    "{axes: {lr: 3}}": "wrong-type",
    "{axes: {nope: [1]}}": "unknown-variable",
    "{axes: {workflow.name: [a]}}": "wrong-path",
    "{axes: {variables.lr.x: [1]}}": "wrong-path",
    "{axes: {tasks.train.script: [a]}}": "wrong-path",
    "{axes: {tasks.nope.timeout: [1]}}": "unknown-task",
    "{axes: {tasks.train: [1]}}": "wrong-path",
    "{axes: {tasks.train.resources.gpu: [1]}}": "wrong-path",
    "{axes: {tasks.report.timeout: [1]}}": "wrong-path",
    "{axes: {lr: [1]}, max_runs: 0}": "wrong-value",
    "{axes: {lr: [1]}, max_runs: 2.5}": "wrong-type",
    "{axes: {lr: [1]}, max_runs: true}": "wrong-type",
    "{axes: {lr: [1]}, on_overflow: drop}": "wrong-value",
    "{axes: {lr: [1], variables.lr: [2]}}": "sweep-overlap",
    "{axes: {lr: [1]}, cases: [{name: a, set: {variables.lr: 2}}]}": "sweep-overlap",
    "{cases: [{name: a, set: {tasks.train.resources: {}, tasks.train.resources.gpus: 2}}]}": "sweep-overlap",
    "{cases: [{name: a, set: {lr: 1}, axes: {lr: [2]}}]}": "sweep-overlap",
    "{cases: [{name: a}, {name: a, set: {lr: 1}}]}": "duplicate-case",
    "{cases: [{name: ' '}]}": "unsafe-name",
    "{axes: {wd: [x]}}": "wrong-value",
}


@pytest.mark.parametrize("sweep", WRONG)
def test_a_wrong_sweep_is_refused(tmp_path: Path, sweep: str) -> None:
    assert WRONG[sweep] in codes(tmp_path, f"{VARIABLES}sweep: {sweep}\n{PIPELINE}")


def test_the_same_path_in_two_cases_is_fine(tmp_path: Path) -> None:
    cases = "[{name: a, set: {lr: 1}}, {name: b, set: {lr: 2}}]"
    assert codes(tmp_path, f"{VARIABLES}sweep: {{cases: {cases}}}\n{PIPELINE}") == []


def test_a_resolved_document_keeps_what_differs_between_cells(tmp_path: Path) -> None:
    from sflow_ctl.format.compose import compose

    file = tmp_path / "w.yaml"
    file.write_text(f'version: "0.1"\n{VARIABLES}sweep: {{axes: {{variables.layers: [1, 2]}}}}\n{PIPELINE}')
    text = compose(load_documents([file]), is_resolved=True)
    assert "eval ${{ layers }}" in text
    assert "layers:" in text
