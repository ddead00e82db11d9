"""Small plans and facts for tests of the scheduler."""

from typing import Literal

from protocol.ids import AttemptId, ProbeKind, RankId
from protocol.messages.checks import LogCheck, LogPattern, Probe, TcpCheck
from protocol.messages.facts import (
    Goodbye,
    Hello,
    Leased,
    LifeConfirmed,
    LiveRank,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankStarted,
)
from protocol.messages.node import Inventory
from protocol.messages.rank_spec import HangPolicy, PortBlock, Stopping
from sflow_ctl.core.events import AgentJoined, MessageReceived
from sflow_ctl.plan.model import (
    DeferredExpression,
    Dependency,
    FinallyWhen,
    Placement,
    Plan,
    PlannedNode,
    PlannedTask,
)
from sflow_ctl.plan.parts.again import Restart, Retries
from sflow_ctl.plan.words import OnFailure

HTTP = PortBlock(name="http")
READINESS = Probe(kind="readiness", checks=(TcpCheck(port=1000),))
LINE = Probe(kind="readiness", checks=(LogCheck(pattern=LogPattern(pattern="up")),))
"""Ready by a line of its log."""


def a_task(
    name: str,
    *depends_on: str,
    service: bool = False,
    retries: int = 0,
    interval_s: float = 1.0,
    backoff: float = 2.0,
    timeout_s: float | None = None,
    placement: Placement | None = None,
    elsewhere: Placement | None = None,
    pinned: str = "",
    after_completion: tuple[str, ...] = (),
    base: str | None = None,
    ranks_per_node: tuple[int, ...] = (1,),
    kill_on_bad_exit: bool = False,
    wait_s: float | None = None,
    groups: tuple[str, ...] = (),
    after_end: tuple[str, ...] = (),
    after_failure: tuple[str, ...] = (),
    on_failure: OnFailure = "cancel",
    restart: Restart | None = None,
    kind: Literal["task", "service"] | None = None,
    is_main: bool = False,
    finally_when: FinallyWhen | None = None,
    success_exit_codes: tuple[int, ...] = (0,),
    min_ready: int | None = None,
    ports: tuple[PortBlock, ...] = (),
    has_master_port: bool = False,
    uses_port_of: tuple[str, ...] = (),
    stopping: Stopping = Stopping(),  # noqa: B008 - immutable
    hang: HangPolicy | None = None,
    probes: tuple[Probe, ...] = (),
) -> PlannedTask:
    """A task of one rank on node 0 unless placed elsewhere.

    It finds in `PORT_OF_X` the port `http` of each task X of `uses_port_of`.
    """
    placeholders = {name: f"${{{{ task.{name}.port.http }}}}" for name in uses_port_of}
    dependencies = [Dependency(task=other) for other in depends_on]
    dependencies += [Dependency(task=other, until="completed") for other in after_completion]
    dependencies += [Dependency(task=other, until="finished") for other in after_end]
    dependencies += [Dependency(task=other, until="failed") for other in after_failure]
    dependencies += [Dependency(task=other, is_group=True) for other in groups]
    return PlannedTask(
        name=name,
        base=base or name,
        backend="local",
        operator="default_local",
        operator_kind="bash",
        argv=("bash", "-c", "true"),
        script="true",
        env={f"PORT_OF_{name}": placeholder for name, placeholder in placeholders.items()},
        deferred=tuple(
            DeferredExpression(placeholder=placeholder, names={}, uses_ports=(name,))
            for name, placeholder in placeholders.items()
        ),
        ports=ports,
        has_master_port=has_master_port,
        depends_on=tuple(dependencies),
        placement=placement or Placement(nodes=(0,)),
        elsewhere=elsewhere,
        pinned=pinned,
        ranks_per_node=ranks_per_node,
        kill_on_bad_exit=kill_on_bad_exit,
        wait_s=wait_s,
        retries=Retries(count=retries, interval_s=interval_s, backoff=backoff),
        timeout_s=timeout_s,
        on_failure=on_failure,
        restart=restart,
        kind=kind,
        is_main=is_main,
        finally_when=finally_when,
        success_exit_codes=success_exit_codes,
        min_ready=min_ready,
        stopping=stopping,
        hang=hang,
        probes=probes or ((READINESS,) if service else ()),
    )


def a_plan(
    *tasks: PlannedTask,
    nodes: int = 1,
    gpus: int | None = None,
    timeout_s: float | None = None,
    max_running: int | None = None,
    keep_alive: bool = False,
    services_may_leave: bool = False,
) -> Plan:
    """A plan over `nodes` local nodes of `gpus` GPUs each."""
    return Plan(
        workflow="test",
        nodes=tuple(
            PlannedNode(
                index=i,
                backend="local",
                backend_index=i,
                name=f"localhost-{i}",
                address="127.0.0.1",
                gpus=gpus,
            )
            for i in range(nodes)
        ),
        tasks=tasks,
        task_views={task.name: {} for task in tasks},
        timeout_s=timeout_s,
        max_running=max_running,
        keep_alive=keep_alive,
        services_may_leave=services_may_leave,
    )


def rank(name: str, attempt: int = 1, number: int = 0) -> RankId:
    """A rank of an attempt, the first unless said."""
    return RankId(AttemptId(name, attempt), number)


def hello(
    node: int = 0,
    session: str = "s1",
    incarnation: int = 1,
    live: tuple[LiveRank, ...] = (),
    exited: tuple[RankExited, ...] = (),
    clearing: tuple[RankId, ...] = (),
    triggered: tuple[ProbeTriggered, ...] = (),
    session_number: int = 0,
    *,
    shares_run_directory: bool = True,
    follows: str = "",
) -> AgentJoined:
    """An agent reports."""
    return AgentJoined(
        hello=Hello(
            version=(1, 0),
            install_path="",
            session=session,
            node=node,
            agent_incarnation=incarnation,
            controller_incarnation=0,
            follows=follows,
            pid=100 + node,
            inventory=Inventory(host="h", cpus=2, cpus_online=2, memory_bytes=1 << 30),
            shares_run_directory=shares_run_directory,
            live=live,
            exited=exited,
            clearing=clearing,
            triggered=triggered,
            session_number=session_number,
        )
    )


def started(
    name: str, attempt: int = 1, node: int = 0, rank_number: int = 0, started_at_ns: int = 0
) -> MessageReceived:
    """A rank has a process."""
    message = RankStarted(rank=rank(name, attempt, rank_number), pid=1, started_at_ns=started_at_ns)
    return MessageReceived(node=node, message=message)


def exited(
    name: str,
    code: int | None = 0,
    attempt: int = 1,
    node: int = 0,
    signal: int | None = None,
    cleared: bool = True,
    rank_number: int = 0,
    runtime_s: float = 0.0,
) -> MessageReceived:
    """A rank's process has been reaped."""
    code = None if signal is not None else code
    message = RankExited(
        rank=rank(name, attempt, rank_number),
        exit_code=code,
        signal=signal,
        cleared=cleared,
        runtime_s=runtime_s,
    )
    return MessageReceived(node=node, message=message)


def cleared(
    name: str, attempt: int = 1, node: int = 0, survivors: tuple[str, ...] = (), number: int = 0
) -> MessageReceived:
    """Nothing of a rank is left, or of a part of a job step."""
    return MessageReceived(
        node=node, message=RankCleared(rank=rank(name, attempt, number), survivors=survivors)
    )


def confirmed(number: int, node: int = 0) -> MessageReceived:
    """The answer of an agent that was asked whether it runs."""
    return MessageReceived(node=node, message=LifeConfirmed(number=number))


def ready(name: str, attempt: int = 1, node: int = 0, kind: ProbeKind = "readiness") -> MessageReceived:
    """A probe of a task triggered."""
    return MessageReceived(
        node=node, message=ProbeTriggered(attempt=AttemptId(name, attempt), kind=kind, detail="seen")
    )


def goodbye(node: int = 0) -> MessageReceived:
    """Return the fact that an agent is done."""
    return MessageReceived(node=node, message=Goodbye())


def waits(name: str, attempt: int, detail: str, node: int = 0) -> MessageReceived:
    """A readiness probe says what it misses."""
    message = ProbeWaiting(attempt=AttemptId(name, attempt), kind="readiness", detail=detail)
    return MessageReceived(node=node, message=message)


def leased(task: str, number: int, node: int = 0, **ports: int) -> MessageReceived:
    """An agent answers with one port for each name."""
    blocks: dict[str, tuple[int, ...]] = {name: (port,) for name, port in ports.items()}
    return MessageReceived(node=node, message=Leased(task=task, number=number, ports=blocks))
