"""NODE and GPUS of tasks that have several nodes."""

from pathlib import Path

from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.report.looking.places import place_lines
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.tables import closing_table
from tests.unit.planner.planning import plan_of

TEXT = """backends: {pool: {type: local, nodes: 2, gpus_per_node: 4}}
workflow:
  name: w
  tasks:
    - {name: both, script: [x], resources: {gpus: 8}}
    - {name: bare, script: [x]}
    - {name: one, script: [x], resources: {gpus: 2}}
    - {name: never, script: [x]}
"""


def test_ux_05_a_task_on_several_nodes_shows_numbers(tmp_path: Path) -> None:
    state = RunView(plan_of(tmp_path, TEXT))
    for name, gpus in (("both", (0, 1, 2, 3)), ("bare", ()), ("one", (0, 1))):
        state.apply(
            Transition(
                task=name,
                attempt=1,
                old=TaskState.RUNNING,
                new=TaskState.COMPLETED,
                reason=Reason("exit"),
                node=0,
                gpus=gpus,
            )
        )
    places = [row[-2:] for row in closing_table(state).rows]
    assert places == [("2 nodes", "8"), ("2 nodes", "-"), ("localhost", "0-1"), ("-", "-")]


def test_a_task_that_waits_for_cpus_says_which_tasks_have_them(tmp_path: Path) -> None:
    text = """workflow:
  name: w
  tasks:
    - {name: a, script: [x], resources: {cpus: 2}}
    - {name: b, script: [x], resources: {cpus: 1, memory: 8G}}
"""
    state = RunView(plan_of(tmp_path, text))
    running = Transition(
        task="a", attempt=1, old=TaskState.STARTING, new=TaskState.RUNNING, reason=Reason("started"), node=0
    )
    state.apply(running)
    said = list(place_lines(state, state.plan.tasks[1], frozenset({0}), {}))
    assert said == [
        "it needs one node, with 1 CPU and 8 GiB of memory: localhost",
        "localhost: CPUs and memory are given to a (2 CPUs)",
    ]
