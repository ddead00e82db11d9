"""Plans with only some of their tasks."""

from pathlib import Path

import pytest

from protocol.errors import PlanError
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.graph import dependency_names
from sflow_ctl.plan.model import Dependency, Plan
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.pipeline import build_plan
from sflow_ctl.planner.prune import pruned

CONTEXT = PlanContext(
    workspace_dir="/w",
    output_dir="/o",
    run_directory="/o/r",
    run_id="r",
    nodes_override=None,
    gpus_per_node_override=None,
    max_running=None,
    path_exists=lambda _: True,
)
TEXT = """
version: "0.1"
backends: {here: {type: local, nodes: 2, gpus_per_node: 2}}
workflow:
  name: w
  tasks:
    - {name: prepare, script: [a], outputs: [{pattern: "x = {x:d}"}]}
    - {name: work, script: [b], depends_on: [prepare], replicas: {count: 3}, resources: {gpus: {count: 1}}}
    - {name: chain, script: [c], replicas: {count: 3, policy: sequential}}
    - {name: gather, script: [d], depends_on: [work]}
    - {name: use, script: ["echo ${{ task.prepare.outputs.x }}"], depends_on: [prepare]}
    - {name: watcher, script: [e], probes: {failure: {log_watch: {match_pattern: BAD, logger: use}}}}
    - {name: alone, script: [f]}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan of TEXT."""
    file = tmp_path / "w.yaml"
    file.write_text(TEXT)
    return build_plan(load_documents([file]), CONTEXT)


def names(plan: Plan) -> list[str]:
    """Its tasks."""
    return [task.name for task in plan.tasks]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (("alone",), ["alone"]),
        (("gather",), ["prepare", "work_0", "work_1", "work_2", "gather"]),
        (("work_1",), ["prepare", "work_1"]),
        (("chain_1",), ["chain_0", "chain_1"]),
        (("watcher", "alone"), ["prepare", "use", "watcher", "alone"]),
    ],
)
def test_a_task_comes_with_its_dependencies(plan: Plan, asked: tuple[str, ...], kept: list[str]) -> None:
    left = pruned(plan, asked, skip_dependencies=False)
    assert names(left) == kept
    members = left.members()
    assert all(name in kept for task in left.tasks for name in dependency_names(task, members))


def test_kept_tasks_stay_as_planned(plan: Plan) -> None:
    left = pruned(plan, ["gather"], skip_dependencies=False)
    by_name = {task.name: task for task in plan.tasks}
    assert all(task == by_name[task.name] for task in left.tasks)
    assert left.nodes == plan.nodes


def test_without_dependencies_nothing_is_waited_for_that_does_not_run(plan: Plan) -> None:
    left = pruned(plan, ["work", "chain_2", "gather"], skip_dependencies=True)
    assert {task.name: task.depends_on for task in left.tasks} == {
        "work_0": (),
        "work_1": (),
        "work_2": (),
        "chain_2": (),
        "gather": (Dependency(task="work", is_group=True),),
    }
    some = pruned(plan, ["work_0", "work_2", "gather"], skip_dependencies=True)
    assert some.tasks[-1].depends_on == (Dependency(task="work_0"), Dependency(task="work_2"))


def test_all_unknown_names_are_reported(plan: Plan) -> None:
    with pytest.raises(PlanError) as caught:
        pruned(plan, ["gathr", "alone", "zzz"], skip_dependencies=True)
    assert [finding.what for finding in caught.value.findings] == [
        'there is no task "gathr"',
        'there is no task "zzz"',
    ]
    assert caught.value.findings[0].hint == 'did you mean "gather"?'


def test_a_task_that_cannot_do_without_another_is_refused(plan: Plan) -> None:
    with pytest.raises(PlanError, match='uses the outputs of "prepare", which would not run'):
        pruned(plan, ["use"], skip_dependencies=True)
    with pytest.raises(PlanError, match='watches the log of "use", which would not run'):
        pruned(plan, ["watcher"], skip_dependencies=True)
