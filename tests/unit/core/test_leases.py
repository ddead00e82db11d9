"""Ports in the scheduler: when they are requested, which attempts wait, and port conflicts."""

import msgspec

from protocol.messages.facts import Leased, RankExited
from protocol.messages.orders import Release
from protocol.messages.rank_spec import PortBlock
from sflow_ctl.core.events import MessageReceived, StopRequested
from sflow_ctl.core.policy.restart_policy import MAX_RENEWALS
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver, Lines
from tests.unit.core.plans import HTTP, a_plan, a_task, exited, hello, rank, ready, started

S = TaskState


def lease(run: Driver, task: str, *ports: int, node: int = 0, number: int = 1, name: str = "http") -> Lines:
    message = Leased(task=task, number=number, ports={name: ports})
    return run(MessageReceived(node=node, message=message))


def failed(run: Driver, name: str, attempt: int, port_conflict: str = "") -> Lines:
    message = RankExited(rank=rank(name, attempt), exit_code=1, port_conflict=port_conflict)
    return run(MessageReceived(node=0, message=message))


def test_processes_are_ordered_once_their_ports_are_known() -> None:
    run = Driver.joined(a_plan(a_task("a", ports=(HTTP, PortBlock(name="nixl", count=2)))), 0)
    assert run.leases() == [(0, "a", 1)]
    assert not run.envs()
    assert run.state("a") is S.STARTING
    run(MessageReceived(node=0, message=Leased(task="a", number=1, ports={"http": (7,), "nixl": (8, 9)})))
    env = run.envs()["a#1"]
    assert (env["SFLOW_PORT_HTTP"], env["SFLOW_PORT_NIXL"], env["SFLOW_PORTS_NIXL"]) == ("7", "8", "8,9")
    assert "SFLOW_MASTER_PORT" not in env


def test_a_port_is_known_to_a_task_that_its_task_waits_for() -> None:
    plan = a_plan(a_task("first", uses_port_of=("later",)), a_task("later", "first", ports=(HTTP,)))
    run = Driver.joined(plan, 0)
    assert run.leases() == [(0, "later", 1)]
    lease(run, "later", 7)
    assert run.envs()["first#1"]["PORT_OF_later"] == "7"
    run(started("first"))
    run(exited("first"))
    assert run.leases() == []
    assert run.envs()["later#1"]["SFLOW_PORT_HTTP"] == "7"


def test_a_lease_is_requested_once_for_all_its_users() -> None:
    users = [a_task(f"u{number}", uses_port_of=("a",)) for number in range(3)]
    run = Driver.joined(a_plan(*users, a_task("a", ports=(HTTP,))), 0)
    assert run.leases() == [(0, "a", 1)]
    lease(run, "a", 7)
    assert set(run.envs()) == {"u0#1", "u1#1", "u2#1", "a#1"}


def test_an_answer_that_is_late_or_of_another_number_is_ignored() -> None:
    run = Driver.joined(a_plan(a_task("a", ports=(HTTP,))), 0)
    lease(run, "a", 7, number=2)
    lease(run, "b", 7)
    assert not run.envs()
    lease(run, "a", 8)
    lease(run, "a", 9)
    assert not run.envs()
    assert run.task("a").attempt.ports == {0: {"http": (8,)}}


def test_an_agent_that_comes_later_or_again_is_asked_then() -> None:
    plan = a_plan(a_task("a", uses_port_of=("b",)), a_task("b", ports=(HTTP,), placement=on(1)), nodes=2)
    run = Driver.joined(plan, 0)
    assert run.leases() == []
    assert run(hello(1))
    assert run.leases() == [(1, "b", 1)]
    run(hello(1, session="again"))
    assert run.leases() == [(1, "b", 1)]
    lease(run, "b", 7, node=1)
    assert set(run.envs()) == {"a#1", "b#1"}
    run(hello(1, session="restarted", incarnation=2))
    assert run.state("b") is S.LOST


def on(*nodes: int) -> Placement:
    """These nodes."""
    return Placement(nodes=nodes)


def test_an_agent_that_was_restarted_leases_again_for_those_that_wait() -> None:
    plan = a_plan(
        a_task("c", uses_port_of=("a", "b")),
        a_task("a", "c", ports=(HTTP,), placement=on(1)),
        a_task("b", "c", ports=(HTTP,), placement=on(2)),
        nodes=3,
    )
    run = Driver.joined(plan, 0, 1, 2)
    lease(run, "a", 7, node=1)
    run(hello(1, session="restarted", incarnation=2))
    assert run.leases() == [(1, "a", 2)]
    lease(run, "b", 8, node=2)
    assert not run.envs()
    lease(run, "a", 9, node=1, number=2)
    assert run.envs()["c#1"]["PORT_OF_a"] == "9"


def test_a_retry_has_the_same_ports() -> None:
    run = Driver.joined(a_plan(a_task("a", ports=(HTTP,), retries=1)), 0)
    lease(run, "a", 7)
    failed(run, "a", 1)
    run.wake()
    assert run.leases() == []
    assert run.envs()["a#2"]["SFLOW_PORT_HTTP"] == "7"


def test_a_stolen_port_is_replaced_and_no_retry_is_used_up() -> None:
    run = Driver.joined(a_plan(a_task("a", ports=(HTTP,))), 0)
    for renewal in range(1, MAX_RENEWALS + 1):
        lease(run, "a", 6 + renewal, number=renewal)
        failed(run, "a", renewal, port_conflict=f"port {6 + renewal} (http) is taken by process 9 nginx")
        assert run.state("a") is S.WAITING
        run.wake()
        assert run.leases() == [(0, "a", renewal + 1)]
    lease(run, "a", 99, number=MAX_RENEWALS + 1)
    failed(run, "a", MAX_RENEWALS + 1, port_conflict="port 99 (http) is taken by process 9 nginx")
    assert run.state("a") is S.FAILED
    assert run.run.cause is not None
    assert "port 99 (http) is taken by process 9" in run.run.cause.text


def test_a_failure_that_a_stolen_port_did_not_cause_counts() -> None:
    run = Driver.joined(a_plan(a_task("a", ports=(HTTP,))), 0)
    lease(run, "a", 7)
    failed(run, "a", 1)
    assert run.state("a") is S.FAILED


def test_a_rank_whose_port_is_stolen_ends_its_gang() -> None:
    gang = a_task("g", placement=on(0, 1), ranks_per_node=(1, 1), has_master_port=True)
    run = Driver.joined(a_plan(gang, nodes=2), 0, 1)
    assert run.leases() == [(0, "g", 1)]  # only its first node has a port to meet at
    lease(run, "g", 7, name="master")
    assert {env["SFLOW_MASTER_PORT"] for env in run.envs().values()} == {"7"}
    run(started("g"))
    run(started("g", node=1, rank_number=1))
    failed(run, "g", 1, port_conflict="port 7 (master) is taken")
    assert run.state("g") is S.STOPPING
    run(exited("g", signal=15, node=1, rank_number=1))
    assert run.state("g") is S.WAITING


def test_each_node_of_a_gang_has_ports_and_the_first_ones_are_known() -> None:
    gang = a_task("g", placement=on(0, 1), ranks_per_node=(1, 1), ports=(HTTP,), service=True)
    run = Driver.joined(a_plan(gang, a_task("c", "g", uses_port_of=("g",)), nodes=2), 0, 1)
    assert run.task("g").attempt.is_unsent
    lease(run, "g", 7)
    lease(run, "g", 8, node=1)
    assert [env["SFLOW_PORT_HTTP"] for env in run.envs().values()] == ["7", "8"]
    run(started("g"))
    run(started("g", node=1, rank_number=1))
    run(ready("g"))
    assert run.envs()["c#1"]["PORT_OF_g"] == "7"


def test_a_node_without_ports_fails_the_task_with_its_words() -> None:
    run = Driver.joined(a_plan(a_task("a", ports=(HTTP,)), a_task("b", uses_port_of=("a",))), 0)
    message = Leased(task="a", number=1, problem="no free port for http")
    run(MessageReceived(node=0, message=message))
    assert run.state("a") is S.FAILED
    assert run.run.cause is not None
    assert "no ports for a on node localhost-0: no free port" in run.run.cause.text


def test_ports_of_a_lost_node_are_not_waited_for() -> None:
    plan = a_plan(a_task("a", uses_port_of=("b",)), a_task("b", "a", ports=(HTTP,), placement=on(1)), nodes=2)
    run = Driver.joined(plan, 0, 1)
    run.lose(1, "silence")
    assert run.state("a") is S.LOST
    again = Driver.joined(plan, 1)
    again.lose(1, "silence")
    again(hello(0))
    assert again.state("a") is S.LOST


def test_the_end_of_a_run_does_not_wait_for_ports() -> None:
    run = Driver.joined(a_plan(a_task("a", ports=(HTTP,)), a_task("b")), 0)
    run(started("b"))
    run(StopRequested(signal="SIGINT"))
    assert run.state("a") is S.CANCELLED
    assert run.run.outcome is Outcome.INTERRUPTED
    lease(run, "a", 7)
    assert not run.envs()


def test_the_ports_of_what_has_ended_are_given_back_and_stay_known() -> None:
    plan = a_plan(a_task("a", ports=(HTTP,)), a_task("b", "a", uses_port_of=("a",)))
    run = Driver.joined(plan, 0)
    lease(run, "a", 7)
    run(started("a"))
    run(exited("a"))
    assert (0, Release(task="a")) in run.orders()
    assert run.envs()["b#1"]["PORT_OF_a"] == "7"


def test_another_place_of_a_flexible_task_has_its_own_lease() -> None:
    anywhere = Placement(nodes=(0, 1), is_flexible=True, gpus_per_node=1)
    task = a_task("a", ports=(HTTP,), placement=anywhere, retries=1)
    other = a_task("other", "a", placement=Placement(nodes=(0,), gpus=(0,)))
    run = Driver.joined(a_plan(task, msgspec.structs.replace(other, depends_on=()), nodes=2, gpus=1), 0, 1)
    lease(run, "a", 7)
    failed(run, "a", 1)  # the other one takes its GPU meanwhile
    run.wake()
    assert run.orders()[0] == (0, Release(task="a"))
    assert run.leases() == [(1, "a", 1)]
    lease(run, "a", 8, node=1)
    assert run.envs()["a#2"]["SFLOW_PORT_HTTP"] == "8"


def test_an_expression_that_fails_at_the_start_fails_its_task() -> None:
    broken = msgspec.structs.replace(
        a_task("b", uses_port_of=("a",)), env={}, deferred=a_task("b", uses_port_of=("nobody",)).deferred
    )
    deferred = tuple(msgspec.structs.replace(one, uses_ports=("a",)) for one in broken.deferred)
    run = Driver.joined(
        a_plan(a_task("a", ports=(HTTP,)), msgspec.structs.replace(broken, deferred=deferred)), 0
    )
    lease(run, "a", 7)
    assert run.state("b") is S.FAILED
    assert run.run.cause is not None
    assert "task b cannot start" in run.run.cause.text


def test_a_gang_that_moves_has_a_place_to_meet_on_its_new_first_node() -> None:
    """Node 1 was its second one and has no port to meet at yet; it keeps ports for the gang all the same."""
    anywhere = Placement(nodes=(0, 1, 2), is_flexible=True, node_count=2)
    gang = a_task(
        "g", placement=anywhere, ranks_per_node=(1, 1), has_master_port=True, ports=(HTTP,), retries=1
    )
    run = Driver.joined(a_plan(gang, nodes=3), 0, 1, 2)
    run(MessageReceived(node=0, message=Leased(task="g", number=1, ports={"http": (7,), "master": (8,)})))
    run(MessageReceived(node=1, message=Leased(task="g", number=1, ports={"http": (7,)})))
    assert len(run.envs()) == 2
    for number, node in ((0, 0), (1, 1)):
        run(started("g", rank_number=number, node=node))
        run(exited("g", 1, rank_number=number, node=node))
    run.lose(0, "gone")
    run.wake()
    assert run.leases() == [(1, "g", 2), (2, "g", 1)]
    run(MessageReceived(node=1, message=Leased(task="g", number=2, ports={"http": (7,), "master": (9,)})))
    run(MessageReceived(node=2, message=Leased(task="g", number=1, ports={"http": (7,)})))
    assert run.envs()["g#2"]["SFLOW_MASTER_PORT"] == "9"
