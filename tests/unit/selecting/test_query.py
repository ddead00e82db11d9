"""The words of `--query`."""

import msgspec
import pytest

from protocol.errors import UsageError
from sflow_ctl.core.states import Reason, TaskState
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.cells import Cell
from sflow_ctl.report.run_view import RunView, TaskRecord
from sflow_ctl.report.selecting.task_query import fitting_tasks, task_query
from tests.unit.core.plans import a_plan, a_task


def a_run() -> RunView:
    """Three trainings of a sweep, one out of memory, and a service."""
    cells = [("large", "1"), ("large", "2"), ("small", "1")]
    tasks = [
        msgspec.structs.replace(
            a_task(f"train_{index}", base="train"),
            is_replicated=True,
            replica_index=index,
            sweep=(("size", size), ("seed", seed)),
            cell=Cell(index=index, id=f"c{index}", label=f"{size}-{seed}", case=size),
        )
        for index, (size, seed) in enumerate(cells)
    ]
    plan: Plan = a_plan(*tasks, a_task("server", service=True))
    oom, why = Reason("cuda_oom", "out of memory"), Reason("retry", "again", after="nccl")
    records = [
        TaskRecord("train_0", TaskState.FAILED, 1, node=0, reason=oom),
        TaskRecord("train_1", TaskState.COMPLETED, 1, node=0, reason=Reason("exit")),
        TaskRecord("train_2", TaskState.WAITING, 1, node=0, reason=why),
        TaskRecord("server", TaskState.LOST, 1, reason=Reason("node_lost")),
    ]
    return RunView(plan, {one.name: one for one in records})


@pytest.mark.parametrize(
    ("queries", "names"),
    [
        (["state=failed"], ["train_0"]),
        (["state=failed,reason=cuda_oom,task=train*,cell=size=large*"], ["train_0"]),
        (["state=failed", "state=completed"], ["train_0", "train_1"]),
        (["state=unfinished"], ["train_2", "server"]),
        (["reason=nccl"], ["train_2"]),
        (["task=train"], ["train_0", "train_1", "train_2"]),
        (["task=train[1]"], ["train_1"]),
        (["cell=large"], ["train_0", "train_1"]),
        (["cell=size=large seed=2"], ["train_1"]),
        (["cell=large-*"], ["train_0", "train_1"]),
        (["cell=c2"], ["train_2"]),
        (["cell=seed=1,state=waiting"], ["train_2"]),
        (["state=running"], []),
        (["node=localhost-0,state=completed"], ["train_1"]),
        ([" state = failed "], ["train_0"]),
    ],
)
def test_a_query_means_tasks_of_which_all_is_true(queries: list[str], names: list[str]) -> None:
    assert fitting_tasks(task_query(queries), a_run()) == names


@pytest.mark.parametrize(
    ("query", "said", "hint"),
    [
        ("state=broken", 'no value "broken" of state', "unfinished"),
        ("reason=oops", 'no value "oops" of reason', "cuda_oom"),
        ("task=tran*", 'no value fits "tran*" of task', "train"),
        ("cell=medium", 'no value "medium" of cell', "size=large"),
        ("node=n9", 'no value "n9" of node', "localhost-0"),
        ("stage=train", 'no key "stage"', "state:"),
        ("failed", '"failed" is not a condition', "write key=value"),
        ("state=", '"state=" is not a condition', "write key=value"),
        ("state=failed,", '"" is not a condition', "write key=value"),
    ],
)
def test_unknown_words_are_refused_with_the_known_ones(query: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        fitting_tasks(task_query([query]), a_run())
    finding = caught.value.findings[0]
    assert said in finding.what
    assert hint in (finding.hint or "")


def test_a_run_without_a_sweep_has_no_cells() -> None:
    with pytest.raises(UsageError) as caught:
        fitting_tasks(task_query(["cell=large"]), RunView(a_plan(a_task("a"))))
    assert caught.value.findings[0].hint == "nothing here has a cell"
