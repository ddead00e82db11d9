"""What planning costs: counted instructions for each task, which do not grow with the numbers of tasks and nodes."""

from pathlib import Path

import pytest

from sflow_ctl.planner.show.text import plan_text
from tests.unit.counting import instructions
from tests.unit.planner.planning import plan_of

SHAPES = {
    "a task on each node": "resources: {nodes: {count: 1}}",
    "nodes, each its own": "resources: {nodes: {count: 1, release_after: task_completion}}",
    "a GPU, fixed": "resources: {gpus: {count: 2}}",
    "a GPU, when ready": "resources: {gpus: {count: 1}}, placement: {pack: nvlink}",
    "shared GPUs named": "resources: {gpus: {indices: [0], shared: true}, nodes: {count: 1}}",
}


def steps_of_planning(folder: Path, more: str, tasks: int, nodes: int) -> int:
    """Return the instructions for planning and showing one task of so many copies on so many nodes."""
    text = f"workflow: {{name: w, tasks: [{{name: t, replicas: {{count: {tasks}}}, script: [x], {more}}}]}}"

    def plan() -> None:
        plan_text(plan_of(folder, text, nodes_override=nodes, gpus_per_node_override=2))

    return instructions(plan)


def test_copies_without_needs_cost_nothing_each(tmp_path: Path) -> None:
    few, many = (
        steps_of_planning(tmp_path, "retries: {count: 1, interval: 1}", tasks, 2) for tasks in (100, 100_000)
    )
    assert many < few * 1.05


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cost_of_a_copy_does_not_grow_with_the_nodes(tmp_path: Path, shape: str) -> None:
    few, some, many = (steps_of_planning(tmp_path, SHAPES[shape], size, size) for size in (10, 30, 90))
    assert many - some < 3 * (some - few) * 1.3
