"""Sentences of `explain`, from a plan and changes of state."""

from pathlib import Path

import pytest

from sflow_ctl.core.model.task import build_graph, members_needed
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.show.task_text import probe_text
from sflow_ctl.report.looking.explanation import RunFactsNow, explain, needs_a_word
from sflow_ctl.report.looking.task_ends import can_no_longer_come, has_come, task_exit_status
from sflow_ctl.report.not_started import needed, not_started, unmet
from sflow_ctl.report.run_view import RunView
from tests.unit.planner.planning import plan_of

S = TaskState
SECOND = 1_000_000_000
TEXT = """backends: {here: {type: local, nodes: 2, gpus_per_node: 4}}
workflow:
  name: w
  tasks:
    - {name: srv, script: [x], probes: {readiness: {tcp_port: {port: 80}, timeout: 60}}, resources: {gpus: {count: 3}}}
    - {name: load, script: [x], replicas: {count: 3}}
    - {name: cli, script: [x], depends_on: [srv, load]}
    - {name: big, script: [x], resources: {gpus: {count: 4}}}
    - {name: late, script: [x], depends_on: [cli]}
    - {name: end, script: [x], finally: true}
"""


class Known:
    """A run whose tasks change as the test says, one second after the other."""

    def __init__(self, plan: Plan) -> None:
        self.state = RunView(plan)
        self.history: dict[str, list[tuple[int, Transition]]] = {}
        self.now = 0
        self.is_live = True
        self.joined = frozenset({0, 1})
        self.lost: dict[int, str] = {}

    def enter(self, task: str, new: S, **fields: object) -> None:
        self.now += SECOND
        reason = fields.pop("reason", Reason("exit"))
        attempt = fields.pop("attempt", 1)
        change = Transition(task=task, attempt=attempt, old=S.WAITING, new=new, reason=reason, **fields)  # type: ignore[arg-type]
        self.state.apply(change, self.now)
        self.history.setdefault(task, []).append((self.now, change))

    def texts(self, task: str) -> list[str]:
        return [one.text for one in explain(self.facts(), task).because]

    def headline(self, task: str) -> str:
        return explain(self.facts(), task).headline

    def facts(self) -> RunFactsNow:
        return RunFactsNow(
            state=self.state,
            history=self.history,
            now_ns=self.now,
            joined=self.joined,
            lost=self.lost,
            is_live=self.is_live,
            probe_text=probe_text,
        )


@pytest.fixture
def run(tmp_path: Path) -> Known:
    return Known(plan_of(tmp_path, TEXT))


def test_ux_03_a_dependency_is_named_with_what_it_does_itself(run: Known) -> None:
    run.enter("srv", S.RUNNING, node=0, gpus=(0, 1, 2))
    run.state.note_waiting("srv", 1, "port 80 is not listening")
    run.enter("load_0", S.COMPLETED)
    assert run.texts("cli") == [
        "it needs srv to be ready; srv is running for 1.00 s, not ready: port 80 is not listening",
        "it needs 3 of 3 load to be completed; 1 is",
        "load_1 is waiting",
        "load_2 is waiting",
    ]
    assert run.texts("end") == ["it runs when the run ends"]


def test_a_place_is_named_with_the_tasks_that_have_it(run: Known) -> None:
    node = run.state.plan.tasks[0].placement.nodes[0]
    run.enter("srv", S.RUNNING, node=node, gpus=(0, 1, 2))
    big = next(task for task in run.state.plan.tasks if task.name == "big")
    texts = run.texts("big")
    assert texts[0].startswith("it needs 4 GPUs on one node")
    if node in big.placement.nodes:
        assert any("srv has 0-2" in text for text in texts)
    run.joined = frozenset()
    assert any("has not joined the run yet" in text for text in run.texts("big"))
    run.lost = dict.fromkeys(big.placement.nodes, "its agent is silent")
    assert any("is lost: its agent is silent" in text for text in run.texts("big"))
    run.joined, run.lost = frozenset({0, 1}), {}
    run.enter("srv", S.COMPLETED)
    assert "its place is free" in run.texts("big")[-1]


def test_a_service_says_its_probe_the_last_answer_and_the_time_left(run: Known) -> None:
    run.enter("srv", S.RUNNING, node=0)
    assert run.headline("srv") == "srv is running on localhost for 0.00 s, not ready"
    first, second, third = run.texts("srv")
    assert first == "it is ready once: port 80"
    assert second.startswith("last answer: none yet")
    assert third == "it must be ready within 1:00: 1:00 are left"
    run.state.note_waiting("srv", 1, "connection refused")
    assert run.texts("srv")[1] == "last answer: connection refused"


def test_attempts_and_their_ends_are_listed(run: Known) -> None:
    again = Reason("retry", "exit status 3; attempt 2 of 2 in 1 s", after="exit")
    run.enter("big", S.WAITING, reason=again, exit_code=3, runtime_s=2.0)
    assert run.texts("big") == [
        "attempt 1 ended after 2.00 s: exit status 3; attempt 2 of 2 in 1 s",
        "exit status 3; attempt 2 of 2 in 1 s",
    ]
    why = Reason("oom", "the kernel killed it", line="Killed", line_number=7, hint="use less")
    run.enter("big", S.FAILED, attempt=2, reason=why, signal=9, runtime_s=1.0)
    assert run.headline("big") == "big failed after 1.00 s, SIGKILL"
    assert run.texts("big")[1:] == [
        "oom: the kernel killed it",
        "line 7 of its log: Killed",
        "hint: use less",
    ]


def test_the_first_failure_of_a_chain_is_named(run: Known) -> None:
    run.enter("srv", S.FAILED, reason=Reason("exit", "exit status 1"), exit_code=1)
    run.enter("cli", S.SKIPPED, attempt=0, reason=Reason("upstream", "needs srv, which is failed"))
    run.enter("late", S.SKIPPED, attempt=0, reason=Reason("upstream", "needs cli, which is skipped"))
    assert run.headline("late") == "late did not run"
    assert run.texts("late")[-1] == "the first failure was srv, failed: exit status 1"


def test_what_is_in_order_needs_no_word(run: Known) -> None:
    tasks = {task.name: task for task in run.state.plan.tasks}
    run.enter("load_0", S.RUNNING)
    run.enter("srv", S.READY)
    assert not needs_a_word(run.facts(), tasks["load_0"])
    assert not needs_a_word(run.facts(), tasks["srv"])
    run.enter("srv", S.STOPPING, reason=Reason("interrupted", "stopped by SIGINT"))
    assert needs_a_word(run.facts(), tasks["srv"])
    assert run.texts("srv") == ["stopped by SIGINT", "it is being ended by SIGTERM, then SIGKILL 5 s later"]
    run.is_live = False
    assert run.headline("big") == "big was waiting when the run ended"


def test_enough_members_of_a_group_are_enough(tmp_path: Path) -> None:
    text = """workflow:
  name: w
  tasks:
    - {name: srv, script: [x], replicas: {count: 3, min_ready: 2}, probes: {readiness: {tcp_port: {port: 80}}}}
    - {name: cli, script: [x], depends_on: [srv]}
    - {name: sad, script: [x], depends_on: [{task: srv, until: failed}]}
"""
    plan = plan_of(tmp_path, text)
    members = plan.members()
    for task in build_graph(plan):
        for dependency in task.plan.depends_on:
            group = [one for one in build_graph(plan) if one.plan.base == dependency.task]
            assert needed(dependency, members) == members_needed(dependency, group[0].wanted, len(group))
    run = Known(plan)
    run.enter("srv_0", S.READY)
    assert unmet(run.state, "cli") == ["srv_1", "srv_2"]
    run.enter("srv_1", S.READY)
    assert unmet(run.state, "cli") == []
    assert not_started(run.state, "cli") == "cli has not started: it waits for room"


@pytest.mark.parametrize(
    ("state", "fields", "status"),
    [
        (S.COMPLETED, {"exit_code": 0}, 0),
        (S.COMPLETED, {"signal": 15}, 0),
        (S.FAILED, {"exit_code": 3}, 3),
        (S.FAILED, {"exit_code": 0}, 1),
        (S.FAILED, {"signal": 9}, 137),
        (S.TIMEOUT, {"signal": 15}, 124),
        (S.LOST, {}, 3),
        (S.SKIPPED, {}, 1),
        (S.CANCELLED, {"reason": Reason("interrupted"), "signal": 15}, 143),
        (S.CANCELLED, {"reason": Reason("interrupted"), "attempt": 0}, 130),
        (S.CANCELLED, {"reason": Reason("fail_fast"), "signal": 15}, 143),
        (S.RUNNING, {}, None),
    ],
)
def test_the_status_of_a_task(run: Known, state: S, fields: dict[str, object], status: int | None) -> None:
    run.enter("big", state, **fields)
    record = run.state.tasks["big"]
    assert task_exit_status(record) == status
    assert has_come(record, "end") == (status is not None)
    assert can_no_longer_come(record, "ready") == (status not in (None, 0))


def test_a_task_that_is_lost_with_its_controller_ran_until_that_was_last_heard_of(run: Known) -> None:
    run.enter("load_0", S.STARTING, node=0)
    run.enter("load_0", S.RUNNING, node=0)
    began = run.now
    run.state.lose_live_tasks(began + 90 * SECOND)
    run.is_live = False
    run.now = began + 90 * SECOND
    assert run.state.tasks["load_0"].runtime_s == 90.0
    assert run.headline("load_0") == "load_0 lost after 1:30"
    assert any(text.endswith("load_0 was lost") for text in run.texts("cli")), run.texts("cli")
