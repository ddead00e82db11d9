"""Tasks whose node is lost: they run elsewhere unless they are pinned, and never beside an earlier attempt of theirs."""

import msgspec

from protocol.messages.facts import Leased
from protocol.messages.orders import Spawn
from protocol.messages.rank_spec import RankSpec
from sflow_ctl.core.commands import Command, RecordTransition, RenderTexts, SendToAgent, Warn
from sflow_ctl.core.events import (
    AgentLost,
    MessageReceived,
    NodeCleared,
    OutputsCollected,
    SchedulerEvent,
    StopRequested,
    WakeUp,
)
from sflow_ctl.core.states import Reason, TaskState
from sflow_ctl.plan.model import DeferredExpression, Placement, Plan, PlannedTask
from sflow_ctl.plan.parts.again import Restart, Retries
from sflow_ctl.plan.parts.launcher import AssignedArgument
from sflow_ctl.plan.results import STDOUT, PlannedOutput
from tests.unit.core.driver import Driver, rendered
from tests.unit.core.plans import HTTP, a_plan, a_task, cleared, exited, hello, ready, started

S = TaskState
ANY = Placement(nodes=(0, 1, 2), is_flexible=True, node_count=1)
FENCE_S = 70.0


class Run:
    """A scheduler whose agents have all reported; keeps the orders to start, and the reasons of changes."""

    def __init__(self, plan: Plan, fence_s: float = 0.0) -> None:
        tasks = tuple(
            msgspec.structs.replace(one, elsewhere=within(one.elsewhere, plan)) for one in plan.tasks
        )
        plan = msgspec.structs.replace(plan, tasks=tasks)
        self.driver = Driver(plan, fence_s=fence_s)
        self.scheduler = self.driver.scheduler
        self.spawned: list[tuple[int, RankSpec]] = []
        self.reasons: dict[str, list[Reason]] = {}
        self.warnings: list[str] = []
        self.now = 0.0
        for node in range(len(plan.nodes)):
            self.tell(hello(node, f"s{node}"))

    def tell(self, event: SchedulerEvent, now: float | None = None) -> None:
        self.now = self.now if now is None else now
        for command in self.driver.handle(event, self.now):
            self._take(command)

    def _take(self, command: Command) -> None:
        match command:
            case SendToAgent(node=node, message=Spawn(ranks=ranks)):
                self.spawned += [(node, spec) for spec in ranks]
                for spec in ranks:
                    self.tell(started(spec.rank.attempt.task, spec.rank.attempt.number, node, spec.rank.rank))
            case RenderTexts():
                self.tell(rendered(self.scheduler, command))
            case RecordTransition(transition=transition):
                self.reasons.setdefault(transition.task, []).append(transition.reason)
            case Warn(text=text):
                self.warnings.append(text)
            case _:
                pass

    def lose(self, node: int, *, is_cleared: bool = False) -> None:
        self.tell(AgentLost(node=node, reason="silent for 30 s", is_cleared=is_cleared))

    def pass_to_wakeup(self) -> None:
        at = self.scheduler.next_wakeup()
        assert at is not None
        self.tell(WakeUp(), at)

    def state(self, name: str) -> TaskState:
        return self.scheduler.run.task_named(name).state

    def starts(self, name: str) -> list[tuple[int, int]]:
        """(attempt, node) of every rank that was ordered to start."""
        return [
            (spec.rank.attempt.number, node) for node, spec in self.spawned if spec.rank.attempt.task == name
        ]

    def last(self, name: str) -> RankSpec:
        return next(spec for _, spec in reversed(self.spawned) if spec.rank.attempt.task == name)


def within(placement: Placement | None, plan: Plan) -> Placement | None:
    """The placement on those of its nodes that the plan has."""
    if placement is None:
        return None
    return msgspec.structs.replace(placement, nodes=placement.nodes[: len(plan.nodes)])


def on(
    node: int, name: str, *needs: str, retries: int = 1, elsewhere: Placement | None = ANY, **more: object
) -> PlannedTask:
    """A task with a fixed place that may be moved, and tried again at once."""
    task = a_task(
        name, *needs, placement=Placement(nodes=(node,)), elsewhere=elsewhere, retries=retries, interval_s=0.0
    )
    return msgspec.structs.replace(task, **more)


# ---------------------------------------------------------------------- n2: where


def test_n2_a_retry_after_a_lost_node_runs_on_the_free_one() -> None:
    run = Run(a_plan(on(0, "t_0"), on(1, "t_1"), nodes=3))
    run.lose(0)
    run.pass_to_wakeup()
    assert run.starts("t_0") == [(1, 0), (2, 2)]
    assert run.starts("t_1") == [(1, 1)]


def test_n2_moved_tasks_are_spread() -> None:
    run = Run(a_plan(*(on(0, f"t_{number}") for number in range(4)), nodes=3))
    run.lose(0)
    run.pass_to_wakeup()
    assert sorted(
        node for number in range(4) for attempt, node in run.starts(f"t_{number}") if attempt == 2
    ) == [1, 1, 2, 2]


def test_n2_a_task_with_gpus_gets_free_ones_elsewhere() -> None:
    two = Placement(nodes=(0,), gpus=(0, 1), gpus_per_node=2)
    there = Placement(nodes=(0, 1, 2), is_flexible=True, node_count=1, gpus_per_node=2)
    moved = msgspec.structs.replace(on(0, "t", elsewhere=there), placement=two)
    other = a_task("other", placement=Placement(nodes=(1,), gpus=(0,), gpus_per_node=1))
    run = Run(a_plan(moved, other, nodes=2, gpus=4))
    run.lose(0)
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 1)]
    assert run.last("t").gpus == (1, 2)
    assert run.last("t").env["CUDA_VISIBLE_DEVICES"] == "1,2"


def test_n2_a_task_with_gpus_waits_until_some_are_free() -> None:
    whole = Placement(nodes=(0,), gpus=(0, 1), gpus_per_node=2)
    there = Placement(nodes=(0, 1), is_flexible=True, node_count=1, gpus_per_node=2)
    moved = msgspec.structs.replace(on(0, "t", elsewhere=there), placement=whole)
    other = a_task("other", placement=Placement(nodes=(1,), gpus=(0, 1), gpus_per_node=2))
    run = Run(a_plan(moved, other, nodes=2, gpus=2))
    run.lose(0)
    run.pass_to_wakeup()
    assert run.state("t") is S.QUEUED
    run.tell(exited("other", node=1))
    assert run.starts("t") == [(1, 0), (2, 1)]


def test_n2_a_task_that_shares_gpus_shares_them_elsewhere() -> None:
    shared = Placement(nodes=(0,), gpus=(1,), gpus_per_node=1, is_shared=True)
    there = msgspec.structs.replace(shared, nodes=(0, 1), is_flexible=True)
    moved = msgspec.structs.replace(on(0, "t", elsewhere=there), placement=shared)
    other = a_task("other", placement=Placement(nodes=(1,), gpus=(0, 1), gpus_per_node=2))
    run = Run(a_plan(moved, other, nodes=2, gpus=2))
    run.lose(0)
    run.pass_to_wakeup()
    assert (run.starts("t"), run.last("t").gpus) == ([(1, 0), (2, 1)], (1,))


def test_n2_a_gang_moves_as_a_whole() -> None:
    there = Placement(nodes=(0, 1, 2, 3), is_flexible=True, node_count=2)
    gang = msgspec.structs.replace(
        on(0, "g", elsewhere=there, has_step_variables=True),
        placement=Placement(nodes=(0, 1)),
        ranks_per_node=(1, 1),
    )
    run = Run(a_plan(gang, nodes=4))
    run.lose(1)
    assert run.state("g") is S.STOPPING  # its rank on node 0 is stopped first
    run.tell(exited("g", signal=15, node=0))
    run.pass_to_wakeup()
    assert sorted(run.starts("g")) == [(1, 0), (1, 1), (2, 0), (2, 2)]
    assert run.last("g").env["SLURM_STEP_NODELIST"] == "localhost-0,localhost-2"


def test_n2_a_task_that_has_not_started_moves_without_a_retry() -> None:
    run = Run(
        a_plan(a_task("first", placement=Placement(nodes=(1,))), on(0, "t", "first", retries=0), nodes=3)
    )
    run.lose(0)
    run.tell(exited("first", node=1))
    assert run.starts("t") == [(1, 1)]


def test_n2_a_task_of_all_nodes_has_those_that_are_left() -> None:
    everywhere = Placement(nodes=(0, 1, 2))
    there = Placement(nodes=(0, 1, 2), is_flexible=True, node_count=0)
    task = msgspec.structs.replace(on(0, "t", elsewhere=there), placement=everywhere)
    run = Run(a_plan(task, a_task("x", placement=Placement(nodes=(1,)), on_failure="continue"), nodes=3))
    run.lose(1)
    assert run.state("t") is S.RUNNING  # it has nothing on that node
    run.tell(exited("t", code=1))
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 0)]
    assert run.last("t").env["SFLOW_TASK_ASSIGNED_NODE_NAMES"] == "localhost-0,localhost-2"


def test_n2_a_restart_in_place_runs_elsewhere_when_its_place_is_lost() -> None:
    service = msgspec.structs.replace(
        on(0, "s", retries=0, kind="service"), restart=Restart(count=2, backoff_s=0.0)
    )
    run = Run(a_plan(service, a_task("job", placement=Placement(nodes=(1,))), nodes=3))
    run.lose(0)
    run.pass_to_wakeup()
    assert run.starts("s") == [(1, 0), (2, 2)]


def test_n2_a_job_step_names_its_new_nodes() -> None:
    step = on(
        0,
        "t",
        argv=("srun", "--nodelist", "localhost-0", "true"),
        assigned_arguments=(AssignedArgument(position=2, value="node_names"),),
        launch_kind="step",
    )
    run = Run(a_plan(step, nodes=2))
    assert run.last("t").argv[2] == "localhost-0"
    run.lose(0)
    run.pass_to_wakeup()
    assert run.last("t").argv == ("srun", "--nodelist", "localhost-1", "true")


# ---------------------------------------------------------------------- n2: what follows


def test_n2_environment_and_expressions_of_dependants_follow() -> None:
    mark = "${{ task.server.nodes[0].name }} ${{ task.server.endpoint.http }}"
    server = msgspec.structs.replace(
        on(0, "server", ports=(HTTP,)), probes=a_task("x", service=True).probes, kind="service"
    )
    client = msgspec.structs.replace(
        a_task("client", "server", placement=Placement(nodes=(1,))),
        script=mark,
        env={"WHERE": mark},
        deferred=(DeferredExpression(placeholder=mark, names={}, uses_ports=("server",)),),
    )
    plan = a_plan(server, client, nodes=3)
    nodes = [msgspec.structs.replace(node, address=f"10.0.0.{node.index}") for node in plan.nodes]
    facts = {"nodes": [{"name": "localhost-0"}], "gpus": []}
    plan = msgspec.structs.replace(plan, nodes=tuple(nodes), task_views={"server": facts, "client": {}})
    run = Run(plan)
    run.tell(MessageReceived(node=0, message=Leased(task="server", number=1, ports={"http": (7,)})))
    run.lose(0)
    run.pass_to_wakeup()
    run.tell(MessageReceived(node=1, message=Leased(task="server", number=1, ports={"http": (8,)})))
    assert run.starts("server") == [(1, 0), (2, 1)]
    assert run.last("server").env["SFLOW_TASK_ASSIGNED_NODE_IPS"] == "10.0.0.1"
    assert run.last("server").env["SFLOW_PORT_HTTP"] == "8"
    run.tell(ready("server", attempt=2, node=1))
    assert run.last("client").env["WHERE"] == "localhost-1 10.0.0.1:8"


def test_n2_a_task_that_names_the_port_of_a_homeless_one_waits_for_its_place() -> None:
    there = Placement(nodes=(0, 1), is_flexible=True, node_count=1, gpus_per_node=1)
    server = msgspec.structs.replace(
        on(0, "server", elsewhere=there, ports=(HTTP,)),
        placement=Placement(nodes=(0,), gpus=(0,), gpus_per_node=1),
    )
    busy = a_task("busy", placement=Placement(nodes=(1,), gpus=(0,), gpus_per_node=1))
    user = a_task("user", "gate", uses_port_of=("server",), placement=Placement(nodes=(1,)))
    gate = a_task("gate", placement=Placement(nodes=(1,)))
    run = Run(a_plan(server, busy, gate, user, nodes=2, gpus=1))
    run.tell(MessageReceived(node=0, message=Leased(task="server", number=1, ports={"http": (7,)})))
    run.lose(0)
    run.pass_to_wakeup()
    run.tell(exited("gate", node=1))
    assert (run.state("server"), run.state("user")) == (S.QUEUED, S.QUEUED)
    run.tell(exited("busy", node=1))
    run.tell(MessageReceived(node=1, message=Leased(task="server", number=1, ports={"http": (8,)})))
    assert run.last("user").env["PORT_OF_server"] == "8"


# ---------------------------------------------------------------------- n2: where it is impossible


def test_r20_a_pinned_task_says_why_it_is_lost() -> None:
    pinned = on(0, "t", elsewhere=None, pinned="resources.nodes.indices names its nodes")
    run = Run(a_plan(pinned, nodes=2))
    run.lose(0)
    assert run.state("t") is S.LOST
    assert run.reasons["t"][-1].text == (
        "node localhost-0 was lost: silent for 30 s; it cannot run elsewhere: resources.nodes.indices names its nodes"
    )


def test_n2_a_gang_that_needs_more_nodes_than_are_left_says_so() -> None:
    there = Placement(nodes=(0, 1), is_flexible=True, node_count=2)
    gang = msgspec.structs.replace(
        on(0, "g", elsewhere=there), placement=Placement(nodes=(0, 1)), ranks_per_node=(1, 1)
    )
    run = Run(a_plan(gang, nodes=2))
    run.lose(1)
    run.tell(exited("g", signal=15))
    assert run.reasons["g"][-1].text.endswith(
        "; it needs 2 nodes, and 1 of those that could take it are left"
    )


def test_n2_a_task_that_cannot_start_any_more_says_which_node_it_needed() -> None:
    waiting = on(0, "t", "first", elsewhere=None, pinned="resources.nodes.indices names its nodes")
    run = Run(a_plan(a_task("first", placement=Placement(nodes=(1,))), waiting, nodes=2))
    run.lose(0)
    run.tell(exited("first", node=1))
    assert run.reasons["t"][-1].text == (
        "node localhost-0 is lost, and it cannot run elsewhere: resources.nodes.indices names its nodes"
    )


# ---------------------------------------------------------------------- r10, r12, r20: never two at once


def test_r10_the_next_attempt_waits_until_the_lost_node_has_ended_the_last_one() -> None:
    run = Run(a_plan(on(0, "t"), nodes=2), FENCE_S)
    run.lose(0)
    assert run.state("t") is S.STOPPING
    assert "started again within 70 s" in run.reasons["t"][-1].text
    run.tell(WakeUp(), FENCE_S - 0.1)
    assert run.starts("t") == [(1, 0)]
    run.tell(WakeUp(), FENCE_S)
    run.tell(WakeUp(), FENCE_S)
    assert run.starts("t") == [(1, 0), (2, 1)]


def test_r10_an_agent_that_says_that_nothing_is_left_ends_the_wait() -> None:
    run = Run(a_plan(on(0, "t"), nodes=2), FENCE_S)
    run.lose(0)
    run.tell(NodeCleared(node=0, survivors=("7 stuck",)), 3.0)
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 1)]
    assert run.scheduler.run.survivors == ["7 stuck"]
    run.tell(NodeCleared(node=0, survivors=("8 again",)), 4.0)  # said twice
    assert run.scheduler.run.survivors == ["7 stuck"]


def test_r10_a_node_whose_guardian_has_ended_is_not_waited_for() -> None:
    run = Run(a_plan(on(0, "t"), nodes=2), FENCE_S)
    run.lose(0, is_cleared=True)
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 1)]


def test_r10_gpus_on_other_nodes_of_a_fenced_gang_are_not_given_away() -> None:
    there = Placement(nodes=(0, 1, 2, 3), is_flexible=True, node_count=2, gpus_per_node=1)
    gang = msgspec.structs.replace(
        on(0, "g", elsewhere=there),
        retries=Retries(count=1, interval_s=5.0),
        placement=Placement(nodes=(0, 1), gpus=(0,), gpus_per_node=1),
        ranks_per_node=(1, 1),
    )
    gate = a_task("gate", placement=Placement(nodes=(3,)))
    want = a_task("want", "gate", placement=Placement(nodes=(0,), gpus=(0,), gpus_per_node=1))
    run = Run(a_plan(gang, gate, want, nodes=4, gpus=1), FENCE_S)
    run.tell(exited("gate", node=3))
    run.lose(1)
    run.tell(exited("g", signal=15))
    assert (run.state("g"), run.starts("want")) == (S.STOPPING, [])
    run.tell(WakeUp(), FENCE_S)
    assert run.starts("want") == [(1, 0)]


def test_r10_a_task_without_another_attempt_is_lost_at_once() -> None:
    run = Run(a_plan(on(0, "t", retries=0), nodes=2), FENCE_S)
    run.lose(0)
    assert run.state("t") is S.LOST
    assert run.warnings == [
        "node localhost-0 was lost: what the run may have left there ends by itself within 70 s"
    ]


def test_r10_a_task_that_keeps_the_run_alive_is_lost_at_once_and_keeps_its_place() -> None:
    run = Run(a_plan(on(0, "t", retries=0, on_failure="continue"), on(1, "u"), nodes=2), FENCE_S)
    run.lose(0)
    assert run.state("t") is S.LOST
    assert run.scheduler.run.task_named("t").is_live
    run.tell(WakeUp(), FENCE_S)
    assert not run.scheduler.run.task_named("t").is_live


def test_r10_a_stop_of_the_run_does_not_wait_for_a_lost_node() -> None:
    run = Run(a_plan(on(0, "t"), nodes=2), FENCE_S)
    run.lose(0)
    run.tell(StopRequested(signal="SIGINT"))
    assert run.state("t") is S.LOST
    assert len(run.warnings) == 1


def test_r10_ranks_that_had_exited_on_the_lost_node_may_have_left_processes_too() -> None:
    run = Run(a_plan(on(0, "t"), nodes=2), FENCE_S)
    run.tell(exited("t", code=1, cleared=False))
    run.lose(0)
    assert run.state("t") is S.STOPPING
    run.tell(WakeUp(), FENCE_S - 1)
    assert run.starts("t") == [(1, 0)]
    run.tell(WakeUp(), FENCE_S)
    run.tell(WakeUp(), FENCE_S)
    assert run.starts("t") == [(1, 0), (2, 1)]


def test_r12_an_attempt_number_is_used_once_however_often_a_task_is_moved() -> None:
    run = Run(a_plan(on(0, "t", retries=2), nodes=3))
    for node in (0, 1):
        run.lose(node)
        run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 1), (3, 2)]
    assert run.last("t").earlier_log == "t/t.attempt-2.log"


def test_r10_a_tree_cleared_elsewhere_does_not_end_the_wait_for_the_lost_node() -> None:
    there = Placement(nodes=(0, 1, 2, 3), is_flexible=True, node_count=2)
    gang = msgspec.structs.replace(
        on(0, "g", elsewhere=there), placement=Placement(nodes=(0, 1)), ranks_per_node=(1, 1)
    )
    run = Run(a_plan(gang, nodes=4), FENCE_S)
    run.lose(1)
    run.tell(exited("g", signal=15, cleared=False))
    run.tell(cleared("g"))
    assert run.state("g") is S.STOPPING
    run.tell(NodeCleared(node=1), 9.0)
    run.pass_to_wakeup()
    assert sorted(run.starts("g"))[2:] == [(2, 0), (2, 2)]


def test_an_exit_whose_outputs_are_read_counts_though_its_node_is_lost() -> None:
    outputs = (PlannedOutput(source=STDOUT, name="rate", pattern="rate = {rate}"),)
    gang = msgspec.structs.replace(
        a_task("a", placement=Placement(nodes=(0, 1)), retries=1, ranks_per_node=(1, 1)),
        outputs=outputs,
    )
    run = Run(a_plan(gang, nodes=2), fence_s=FENCE_S)
    run.tell(started("a"))
    run.tell(started("a", node=1, rank_number=1))
    run.tell(exited("a"))
    run.tell(exited("a", node=1, rank_number=1))
    run.tell(AgentLost(node=1, reason="silent"))
    run.tell(OutputsCollected(task="a", attempt=1, values={"rate": 1.0}))
    assert run.driver.state("a") is S.COMPLETED


def test_a_final_task_does_not_start_beside_its_lost_attempt() -> None:
    """Found by the simulated fleet: the end of a run waited for no lost node."""
    last = a_task(
        "last",
        placement=Placement(nodes=(1,)),
        elsewhere=ANY,
        retries=1,
        finally_when="after_stop",
        timeout_s=999.0,
    )
    run = Run(a_plan(a_task("a"), last, nodes=3), fence_s=FENCE_S)
    run.tell(exited("a"))
    assert run.starts("last") == [(1, 1)]
    run.lose(1)
    run.tell(WakeUp(), 5.0)
    assert run.starts("last") == [(1, 1)]
    run.tell(NodeCleared(node=1), 9.0)
    run.pass_to_wakeup()
    assert run.starts("last")[1:] == [(2, 0)]


# ---------------------------------------------------------------------- n2: tasks that use what has moved


def served(**server: object) -> Run:
    """A client runs with the address of a server on the first of three nodes."""
    service = msgspec.structs.replace(
        on(0, "server", ports=(HTTP,)), probes=a_task("x", service=True).probes, kind="service", **server
    )
    client = a_task("client", "server", placement=Placement(nodes=(1,)))
    run = Run(a_plan(service, client, nodes=3))
    run.tell(MessageReceived(node=0, message=Leased(task="server", number=1, ports={"http": (7,)})))
    run.tell(started("server"))
    run.tell(ready("server"))
    run.tell(started("client", node=1))
    assert run.starts("client") == [(1, 1)]
    return run


def moved_to(run: Run, node: int, port: int) -> list[str]:
    """Lose the server's node; return the warnings once it has been started on another one."""
    run.lose(0)
    while run.scheduler.next_wakeup() is not None and run.starts("server")[-1][0] == 1:
        run.pass_to_wakeup()
        run.tell(MessageReceived(node=node, message=Leased(task="server", number=1, ports={"http": (port,)})))
    return [one for one in run.warnings if "server-moved" in one]


def test_n2_running_tasks_that_have_the_old_address_of_a_server_are_named() -> None:
    (said,) = moved_to(served(), 2, 8)
    assert said == (
        "server-moved: server is on localhost-2, port 8 now; client has its earlier address; "
        '"restart: {dependents: restart}" of server would start them again with the new one'
    )


def test_n2_tasks_that_use_a_moved_server_are_started_again_if_asked_for() -> None:
    restart = Restart(count=2, backoff_s=0.0, restarts_dependents=True)
    run = served(restart=restart)
    assert moved_to(run, 2, 8) == []
    run.tell(exited("client", None, node=1, signal=15))
    run.pass_to_wakeup()
    run.tell(started("server", 2, node=2))
    run.tell(ready("server", attempt=2, node=2))
    assert [attempt for attempt, _ in run.starts("client")] == [1, 2]


def test_n2_a_server_that_comes_back_in_its_place_has_not_moved() -> None:
    run = served(restart=Restart(count=2, backoff_s=0.0))
    run.tell(exited("server", code=1))
    run.pass_to_wakeup()
    assert run.starts("server") == [(1, 0), (2, 0)]
    assert not [one for one in run.warnings if "server-moved" in one]
