"""Which tasks use which artifacts, and how paths are handled that only nodes can check."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from protocol.errors import PlanError
from sflow_ctl.core.model.rank_specs import rank_specs
from sflow_ctl.core.model.task import build_graph
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.deferred import DeferredValues
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.context import JobNode, PlanContext
from sflow_ctl.planner.phases.artifact_use import artifact_use
from sflow_ctl.planner.pipeline import build_plan
from tests.unit.planner.planning import CONTEXT as HERE

CONTEXT = replace(
    HERE,
    path_exists=lambda path: False,
    job_nodes=(JobNode("n1", "10.0.0.1"), JobNode("n2", "10.0.0.2")),
    job_id="7",
)
HEAD = """version: "0.1"
backends:
  pool: {type: slurm, default: true, account: a, partition: p, time: 10, nodes: 2, gpus_per_node: 1}
  here: {type: local}
"""


def plan(
    tmp_path: Path, artifacts: str, tasks: str, *, more: str = "", context: PlanContext = CONTEXT
) -> Plan:
    """A plan with an allocation of two nodes, and a backend here."""
    file = tmp_path / "w.yaml"
    file.write_text(f"{HEAD}{more}artifacts: {{{artifacts}}}\nworkflow:\n  name: w\n  tasks: [{tasks}]\n")
    return build_plan(load_documents([file]), context)


@pytest.mark.parametrize(
    "task",
    [
        "script: ['cat ${{ artifacts.M.path }}']",
        "script: ['cat ${{ artifacts[\"M\"].path }}']",
        "script: ['cat $M']",
        "script: ['cat ${M}/x']",
        "script: ['cat ${M:-none}']",
        "script: [x], operator: {name: box, container_image: '${{ artifacts.M.path }}'}",
        "script: [x], operator: mounting",
        "script: [x], probes: {failure: {log_watch: {match_pattern: '${{ artifacts.M.path }}'}}}",
        "script: ['cat $OWN'], variables: {OWN: '${{ artifacts.M.path }}/own'}",
        "script: ['cat $DEEP']",
        "script: ['cat ${{ variables.DEEP }}']",
    ],
)
def test_paths_that_a_task_names_are_required_on_its_node(task: str, tmp_path: Path) -> None:
    more = "operators:\n  box: {type: srun}\n  mounting: {type: srun, container_image: i, container_mounts: ['$M:/m']}\n"
    artifacts = "M: {uri: 'fs:///models/m'}, OTHER: {uri: 's3://b'}"
    file = tmp_path / "w.yaml"
    file.write_text(
        f"{HEAD}{more}artifacts: {{{artifacts}}}\nworkflow:\n  name: w\n"
        "  variables: {MIDDLE: '${{ artifacts.M.path }}/x', DEEP: '${{ MIDDLE }}/y'}\n"
        f"  tasks: [{{name: a, {task}}}, {{name: b, script: ['echo MM $MM $$ ${{#M}} $OTHER']}}]\n"
    )
    a, b = build_plan(load_documents([file]), CONTEXT).tasks
    assert a.required_paths == (("M", "/models/m"),)
    assert b.required_paths == ()


def test_an_order_carries_the_required_paths_of_its_task(tmp_path: Path) -> None:
    planned = plan(tmp_path, "M: {uri: 'fs:///m'}", "{name: a, script: [$M]}")
    (task,) = build_graph(planned)
    task.begin_attempt(task.plan.placement, 0.0)
    task.attempt.fill_in(
        task.plan, DeferredValues(planned, {}, lambda name: None, EVALUATOR).rendered(task.plan, {})
    )
    orders = rank_specs(task, planned, stream=False)
    assert [(node, order.required_paths) for node, order in orders] == [(n, (("M", "/m"),)) for n in (0, 1)]


def test_fetched_and_made_artifacts_must_reach_the_nodes(tmp_path: Path) -> None:
    artifacts = (
        "W: {uri: 'http://h/w'}, H: {uri: 'hf://o/m/x'}, C: {uri: 'file://c', content: x}, "
        "D: {uri: 'fs://d', create: true}, F: {uri: 'file:///f'}, I: {uri: 'docker://i'}"
    )
    planned = plan(tmp_path, artifacts, "{name: a, script: [$W $H $C $D $F $I]}")
    (task,) = planned.tasks
    assert task.required_paths == tuple((name, planned.artifacts[name]) for name in "WHCD")
    assert [fetch.artifact for fetch in planned.fetches] == ["W", "H"]  # images are the nodes' own affair


def test_a_variable_hides_an_artifact_of_its_name_in_a_shell(tmp_path: Path) -> None:
    more = "variables: {M: 1}\n"
    tasks = "{name: a, script: [$M]}, {name: b, script: ['${{ artifacts.M.path }}']}"
    a, b = plan(tmp_path, "M: {uri: 'fs:///m'}", tasks, more=more).tasks
    assert (a.required_paths, b.required_paths) == ((), (("M", "/m"),))


def test_artifacts_of_a_local_task_must_exist_on_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(
        f"{HEAD}artifacts: {{BOTH: {{uri: 'fs:///b'}}, FAR: {{uri: 'fs:///f'}}, NOBODY: {{uri: 'fs:///n'}}}}\n"
        "workflow: {name: w, tasks: [{name: a, script: [$BOTH $FAR]}, {name: b, script: [$BOTH], backend: here}]}\n"
    )
    use = artifact_use(load_documents([file]).document, lambda task: task.backend is None)
    assert use.is_any_here
    assert use.of_tasks_elsewhere == {"a": ("BOTH", "FAR")}
    assert use.elsewhere == {
        "FAR": True
    }  # what nobody names may be read from the environment, by the task here


def test_an_unused_missing_artifact_is_a_warning_for_remote_tasks(tmp_path: Path) -> None:
    planned = plan(tmp_path, "M: {uri: 'fs:///m'}", "{name: a, script: [x]}")
    (warning,) = planned.warnings
    assert (
        warning.what
        == 'artifact "M": /m does not exist here, and no task names it, so it is looked for on no node'
    )
    assert warning.code == "artifact-missing"
    assert "artifacts.M.uri" in str(warning.where)


def test_local_agents_look_here(tmp_path: Path) -> None:
    context = replace(CONTEXT, nodes_override=1, job_nodes=None)
    with pytest.raises(PlanError, match="/m does not exist"):
        plan(tmp_path, "M: {uri: 'fs:///m'}", "{name: a, script: [$M]}", context=context)


def test_before_there_is_a_job_paths_of_its_nodes_are_not_checked_here(tmp_path: Path) -> None:
    context = replace(CONTEXT, allow_placeholder_nodes=True, job_nodes=None)
    planned = plan(tmp_path, "M: {uri: 'fs:///m'}", "{name: a, script: [$M]}", context=context)
    assert not planned.warnings
    assert planned.tasks[0].required_paths == (("M", "/m"),)
    dry = replace(context, may_lack_artifacts=True)
    (warning,) = plan(tmp_path, "M: {uri: 'fs:///m'}", "{name: a, script: [$M]}", context=dry).warnings
    assert warning.what == 'artifact "M": /m does not exist'


def test_a_script_that_runs_elsewhere_still_is_not_checked(tmp_path: Path) -> None:
    more = "operators: {far: {type: ssh, host: h}}\n"
    (task,) = plan(tmp_path, "M: {uri: 'fs:///m'}", "{name: a, script: [$M], operator: far}", more=more).tasks
    assert task.required_paths == ()


def test_containers_get_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", "/big/hf")
    more = "operators: {box: {type: srun, container_image: i}}\n"
    (task,) = plan(
        tmp_path, "H: {uri: 'hf://o/m'}", "{name: a, script: [$H], operator: box}", more=more
    ).tasks
    assert any("/big/hf/hub:/big/hf/hub" in word for word in task.argv), task.argv
