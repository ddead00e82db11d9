"""A task that fails because its server did is started again with it, and does not end the run (clusters F8)."""

import msgspec
import pytest

from sflow_ctl.core.events import StopRequested, WakeUp
from sflow_ctl.core.policy.server_failures import MOMENT_S
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Placement, PlannedTask
from sflow_ctl.plan.parts.again import Restart
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited

S = TaskState
ELSEWHERE = Placement(nodes=(1,))


def serving(server: PlannedTask, *clients: PlannedTask) -> Driver:
    """A ready server on node 0 and its running clients on node 1."""
    drive = Driver.joined(a_plan(server, *clients, nodes=2))
    drive.serve("server")
    drive.start(*(client.name for client in clients))
    return drive


def a_server(*, retries: int = 1, restart: Restart | None = None) -> PlannedTask:
    return a_task("server", service=True, retries=0 if restart else retries, interval_s=2.0, restart=restart)


def a_client(name: str = "client") -> PlannedTask:
    return a_task(name, "server", placement=ELSEWHERE)


@pytest.mark.parametrize("restart", [None, Restart(backoff_s=2.0)])
def test_clusters_f8_a_client_that_fails_after_its_server_waits_for_its_return(
    restart: Restart | None,
) -> None:
    drive = serving(a_server(restart=restart), a_client())
    drive.end("server", 98)
    drive(exited("client", 7, node=1), now=0.1)
    assert drive.state("client") is S.WAITING
    assert (
        drive.why("client")
        == "restart: exit status 7, when server, which it needs, had failed; it is restarted"
    )
    drive(WakeUp(), now=2.0)
    assert drive.serve("server")[-1] == "1: spawn client#2"
    drive.start("client")
    drive(exited("client", attempt=2, node=1))
    drive(exited("server", attempt=2, signal=15))
    drive.leave()
    assert drive.task("client").retries_used == 0


def test_clusters_f8_the_failure_of_a_server_may_be_heard_of_later() -> None:
    drive = serving(a_server(), a_client())
    assert drive(exited("client", 7, node=1)) == []
    drive(exited("server", 98), now=0.2)
    drive(WakeUp(), now=MOMENT_S)
    assert drive.state("client") is S.WAITING
    assert drive.run.outcome is None


def test_clusters_f8_a_failure_of_its_own_counts_a_moment_later() -> None:
    drive = serving(a_server(), a_client())
    assert drive(exited("client", 7, node=1)) == []
    drive(WakeUp(), now=MOMENT_S)
    assert drive.state("client") is S.FAILED
    assert drive.cause() == "task client failed: exit status 7"


def test_clusters_f8_where_the_server_has_no_other_attempt_a_failure_counts_at_once() -> None:
    drive = serving(a_server(retries=0), a_client())
    drive(exited("client", 7, node=1))
    assert drive.state("client") is S.FAILED


def test_clusters_f8_a_failure_after_the_server_is_back_is_its_own() -> None:
    drive = serving(a_server(), a_client(), a_client("late"))
    drive.end("server", 98)
    drive(WakeUp(), now=2.0)
    drive.serve("server")
    drive(exited("late", 7, node=1), now=9.0)
    assert drive.state("late") is S.FAILED


def test_clusters_f8_a_client_that_began_after_the_failure_is_judged_by_itself() -> None:
    late = msgspec.structs.replace(
        a_client(), depends_on=(*a_client().depends_on, *a_task("x", "gate").depends_on)
    )
    drive = Driver.joined(a_plan(a_server(), a_task("gate"), late, nodes=2))
    drive.serve("server")
    drive.end("server", 98)
    drive(WakeUp(), now=2.0)
    drive.serve("server")
    drive.start("gate")
    drive(exited("gate"), now=3.0)
    drive.start("client")
    drive(exited("client", 7, node=1), now=3.1)
    assert drive.state("client") is S.FAILED


def test_clusters_f8_replicas_that_still_serve_leave_the_failure_to_the_client() -> None:
    servers = [
        msgspec.structs.replace(a_server(), name=f"server_{index}", base="server", min_ready=1)
        for index in range(2)
    ]
    client = a_task("client", groups=("server",), placement=ELSEWHERE)
    drive = Driver.joined(a_plan(*servers, client, nodes=2))
    drive.serve("server_0", "server_1")
    drive.start("client")
    drive.end("server_0", 98)
    drive(exited("client", 7, node=1), now=0.1)
    drive(WakeUp(), now=0.1 + MOMENT_S)  # the other one may have failed as well
    assert drive.state("client") is S.FAILED


def test_clusters_f8_a_server_that_is_lost_with_its_node_explains_it_too() -> None:
    there = Placement(nodes=(0, 1), is_flexible=True, node_count=1)
    server = msgspec.structs.replace(a_server(), elsewhere=there)
    drive = serving(server, a_client())
    drive.lose(0)
    drive(exited("client", 7, node=1), now=0.1)
    assert drive.state("client") is S.WAITING


def test_clusters_f8_only_a_failure_is_put_down_to_the_server() -> None:
    drive = serving(a_server(), a_client())
    drive.end("server", 98)
    drive(exited("client", 0, node=1), now=0.1)
    assert drive.state("client") is S.COMPLETED


def test_clusters_f8_a_failure_that_waits_counts_at_once_when_the_end_is_forced() -> None:
    drive = serving(a_server(), a_client())
    drive(exited("client", 7, node=1))
    drive(StopRequested(signal="SIGINT", force=True))
    assert drive.state("client") is S.CANCELLED
