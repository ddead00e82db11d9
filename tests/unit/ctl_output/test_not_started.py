"""What is said of a task that has no log because it has not started."""

from pathlib import Path

import pytest

from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.report.not_started import not_started
from sflow_ctl.report.run_view import RunView
from tests.unit.planner.planning import plan_of

S = TaskState
TEXT = """workflow:
  name: w
  tasks:
    - {name: srv, script: [x], probes: {readiness: {tcp_port: {port: 1}}}}
    - {name: load, script: [x], replicas: 3}
    - {name: cli, script: [x], depends_on: [srv, load]}
    - {name: wait, script: [x], depends_on: [{task: srv, until: completed}]}
    - {name: end, script: [x], finally: true}
"""


@pytest.fixture
def state(tmp_path: Path) -> RunView:
    return RunView(plan_of(tmp_path, TEXT))


def enter(state: RunView, task: str, new: S, attempt: int = 1, reason: Reason | None = None) -> None:
    state.apply(
        Transition(
            task=task, attempt=attempt, old=S.WAITING, new=new, reason=reason or Reason("exit"), node=0
        )
    )


def test_ux_15_a_task_says_which_tasks_it_waits_for(state: RunView) -> None:
    assert not_started(state, "cli") == "cli has not started: it waits for srv, load_0, load_1, load_2"
    enter(state, "srv", S.READY)
    enter(state, "load_1", S.COMPLETED)
    assert not_started(state, "cli") == "cli has not started: it waits for load_0, load_2"
    assert not_started(state, "wait") == "wait has not started: it waits for srv"
    assert not_started(state, "end") == "end has not started: it waits for the end of the run"


def test_ux_15_a_task_that_waits_for_room_or_never_ran_says_so(state: RunView) -> None:
    enter(state, "cli", S.QUEUED, attempt=0)
    assert not_started(state, "cli") == "cli has not started: it waits for room"
    enter(state, "cli", S.SKIPPED, attempt=0, reason=Reason("upstream", "needs srv, which is failed"))
    assert not_started(state, "cli") == "cli did not run: needs srv, which is failed"


def test_ux_15_a_task_with_an_attempt_has_a_log(state: RunView) -> None:
    for new in (S.STARTING, S.RUNNING, S.COMPLETED):
        enter(state, "srv", new)
        assert not_started(state, "srv") is None
