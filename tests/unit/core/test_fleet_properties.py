"""Properties of whole runs: any small plan, any seed, a bad link, one disaster at most."""

import hypothesis
import msgspec
from hypothesis import strategies as st

from protocol.messages.handover import CheckpointRules, ResumeKind
from protocol.messages.rank_spec import HangPolicy, SideCommand, Stopping
from protocol.messages.uploads import FileUpload, OnUploadError
from sflow_ctl.core.states import TERMINAL, Outcome, TaskState
from sflow_ctl.plan.model import DeferredExpression, FinallyWhen, Placement, Plan, PlannedTask
from sflow_ctl.plan.parts.again import Restart
from sflow_ctl.plan.results import PlannedOutput
from sflow_ctl.plan.words import OnNodeLost
from tests.unit.core.driver import replay
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.plans import HTTP, a_plan, a_task

NODES = 3
GPUS = 4


ON_REQUEST = Stopping(command=SideCommand(argv=("quit",), timeout_s=2.0), signal=2, grace_s=1.0)
WATCH = HangPolicy(no_output_s=3.0, command=SideCommand(argv=("dump",), timeout_s=2.0))
RATE = PlannedOutput(pattern="rate = {rate:g}")
REPLICAS = 3
"""Of each base task; dependencies on all of them are one condition."""


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw up to 12 tasks over 3 nodes of 4 GPUs.

    With services, retries, timeouts, fixed and flexible placements.
    """
    tasks: list[PlannedTask] = []
    for index in range(draw(st.integers(1, 12))):
        placement, ranks = draw(placements())
        names = [task.name for task in tasks if task.finally_when is None]
        depends_on = draw(st.lists(st.sampled_from(names), unique=True, max_size=3)) if names else []
        split = draw(st.integers(0, len(depends_on)))
        whole_groups = [
            group
            for group in (f"g{number}" for number in range(index // REPLICAS))
            if all(task.finally_when is None for task in tasks if task.base == group)
        ]
        final: FinallyWhen | None = draw(st.sampled_from([None] * 8 + ["after_stop", "services_up"]))
        is_service = final is None and draw(st.integers(0, 3)) == 0
        restart = None
        if is_service and draw(st.booleans()):
            restart = Restart(count=draw(st.integers(0, 2)), restarts_dependents=draw(st.booleans()))
        unready = [name for name in depends_on if not by_name(tasks, name).has_readiness]
        if final is not None:
            depends_on, whole_groups, unready = [], [], []
        tasks.append(
            a_task(
                f"t{index}",
                *depends_on[:split],
                after_completion=tuple(name for name in unready if name in depends_on[split : split + 1]),
                after_end=tuple(name for name in unready if name in depends_on[split + 1 : split + 2]),
                after_failure=tuple(name for name in unready if name in depends_on[split + 2 :]),
                base=f"g{index // REPLICAS}",
                groups=tuple(draw(st.lists(st.sampled_from(whole_groups), unique=True, max_size=2)))
                if whole_groups
                else (),
                service=is_service,
                retries=0 if restart is not None else draw(st.integers(0, 2)),
                restart=restart,
                finally_when=final,
                is_main=final is None and not is_service and draw(st.integers(0, 9)) == 0,
                on_failure=draw(
                    st.sampled_from(["cancel", "cancel", "cancel", "drain", "isolate", "continue"])
                ),
                min_ready=draw(st.sampled_from([None, None, 1])),
                timeout_s=30.0 if final is not None else draw(st.sampled_from([None, None, None, 4.0])),
                placement=placement,
                elsewhere=draw(alternatives(placement)),
                ranks_per_node=ranks,
                kill_on_bad_exit=draw(st.booleans()),
                wait_s=draw(st.sampled_from([None, None, 1.0])),
                has_master_port=sum(ranks) > 1,
                stopping=draw(st.sampled_from([Stopping(), Stopping(), ON_REQUEST])),
                hang=draw(st.sampled_from([None, None, WATCH])),
                ports=(HTTP,) if draw(st.integers(0, 2)) == 0 else (),
            )
        )
    for index in draw(st.lists(st.integers(0, len(tasks) - 1), unique=True, max_size=6)):
        tasks[index] = msgspec.structs.replace(tasks[index], outputs=(RATE,))
    leasing = [task.name for task in tasks if task.ports and not task.placement.is_flexible]
    users = draw(st.lists(st.integers(0, len(tasks) - 1), unique=True, max_size=4)) if leasing else []
    for index in users:  # also of tasks that come later, and of themselves
        name = draw(st.sampled_from(leasing))
        tasks[index] = msgspec.structs.replace(
            tasks[index],
            env={f"PORT_OF_{name}": f"${{{{ task.{name}.port.http }}}}"},
            deferred=(
                DeferredExpression(
                    placeholder=f"${{{{ task.{name}.port.http }}}}", names={}, uses_ports=(name,)
                ),
            ),
        )
    for index in draw(st.sets(st.sampled_from(range(len(tasks))), max_size=3)):
        must: OnUploadError = draw(st.sampled_from(["warn", "fail"]))
        upload = FileUpload(target="res", pattern="*.txt", on_error=must)
        env = {**tasks[index].env, "SFLOW_TASK_OUTPUT_DIR": "/run/t"}
        tasks[index] = msgspec.structs.replace(tasks[index], uploads=(upload,), env=env)
    for index in draw(st.sets(st.sampled_from(range(len(tasks))), max_size=3)):
        start = draw(st.sampled_from([None, None, "/start.pt"]))
        after: tuple[ResumeKind, ...] = draw(st.sampled_from([("retry", "rerun", "resume"), ("rerun",)]))
        rules = CheckpointRules(directory="checkpoints", start=start, after=after)
        env = {**tasks[index].env, "SFLOW_TASK_OUTPUT_DIR": "/run/t"}
        tasks[index] = msgspec.structs.replace(tasks[index], checkpoint=rules, env=env)
    for index, task in enumerate(tasks):
        if task.retries.count:
            retries = msgspec.structs.replace(
                task.retries,
                infra_count=draw(st.integers(0, 2)),
                avoids_nodes=draw(st.booleans()),
                fatal_codes=draw(st.sampled_from([(), (1,), (2,)])),
                reasons=draw(st.sampled_from([None, None, (), ("exit",)])),
            )
            task = msgspec.structs.replace(task, retries=retries)
        rule: OnNodeLost | None = draw(st.sampled_from([None, None, "fail", "elsewhere", "elsewhere"]))
        tasks[index] = msgspec.structs.replace(task, on_node_lost=rule)
    plan = a_plan(*tasks, nodes=NODES, gpus=GPUS, max_running=draw(st.sampled_from([None, None, 2, 5])))
    if draw(st.booleans()):
        plan = with_spare(plan)
    return msgspec.structs.replace(plan, stop_timeout_s=draw(st.sampled_from([None, None, 0.0, 8.0])))


def with_spare(plan: Plan) -> Plan:
    """Return the plan with one more node, which is held back, and to which tasks may move."""
    last = plan.nodes[-1]
    spare = msgspec.structs.replace(
        last, index=last.index + 1, backend_index=last.backend_index + 1, name="spare", is_spare=True
    )

    def wider(place: Placement | None) -> Placement | None:
        if place is None or not place.is_flexible:
            return place
        return msgspec.structs.replace(place, nodes=(*place.nodes, spare.index))

    tasks = tuple(
        msgspec.structs.replace(task, placement=wider(task.placement), elsewhere=wider(task.elsewhere))
        for task in plan.tasks
    )
    return msgspec.structs.replace(plan, nodes=(*plan.nodes, spare), tasks=tasks)


def by_name(tasks: list[PlannedTask], name: str) -> PlannedTask:
    """The task of that name."""
    return next(task for task in tasks if task.name == name)


@st.composite
def placements(draw: st.DrawFn) -> tuple[Placement, tuple[int, ...]]:
    """Draw where a task may run.

    Services never ask for GPUs here: they hold them, and a run could starve by design.
    """
    if draw(st.integers(0, 3)) == 0:  # a gang; several nodes with GPUs could starve, each having others free
        ranks = draw(st.sampled_from([(3,), (1, 1), (2, 1)]))
        everywhere = tuple(range(NODES))
        if draw(st.booleans()):
            return Placement(nodes=everywhere[: len(ranks)]), ranks
        return Placement(nodes=everywhere, is_flexible=True, node_count=len(ranks)), ranks
    if draw(st.booleans()):
        return Placement(nodes=(draw(st.integers(0, NODES - 1)),)), (1,)
    gpus = draw(st.integers(0, 1))
    return Placement(nodes=tuple(range(NODES)), is_flexible=True, gpus_per_node=gpus, node_count=1), (1,)


@st.composite
def alternatives(draw: st.DrawFn, placement: Placement) -> Placement | None:
    """Where a task with a fixed place may go when a node of that is lost, or None for one that must stay."""
    if placement.is_flexible or draw(st.booleans()):
        return None
    return Placement(nodes=tuple(range(NODES)), is_flexible=True, node_count=len(placement.nodes))


behaviours = st.builds(
    Behaviour,
    drop=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    repeat=st.sampled_from([0.0, 0.2]),
    max_delay_s=st.sampled_from([0.001, 0.5]),
    fail=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    leftovers=st.sampled_from([0.0, 0.3]),
    stuck=st.sampled_from([0.0, 0.0, 0.3]),
    steal=st.sampled_from([0.0, 0.5]),
    silence=st.sampled_from([0.0, 0.5]),
    lost_logs=st.sampled_from([0.0, 0.3]),
    disconnects=st.sampled_from([0, 0, 1, 3]),
    agent_crashes=st.sampled_from([0, 0, 0, 1, 2]),
    fence_s=st.sampled_from([0.0, 15.0]),
    stop_at=st.sampled_from([None, None, None, 0.05, 3.0]),
    window=st.sampled_from([1, 2, 256]),
    requests=st.sampled_from([0, 0, 1, 4, 8]),
    takeovers=st.sampled_from([(), (), (0.05,), (2.0,), (6.0,), (1.0, 1.5), (0.5, 4.0, 15.0)]),
    suspensions=st.sampled_from([(), (), ((0.06, 100.0),), ((3.0, 900.0), (3.1, 20.0))]),
)


def fits(plan: Plan) -> bool:
    """Services hold their GPU and their place to the end: a plan with too many of them can never finish."""
    services = [task for task in plan.tasks if task.has_readiness]
    return len(services) < (plan.max_running or 1000) and len(services) < GPUS


@hypothesis.settings(deadline=None, max_examples=300, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_every_run_ends_and_keeps_its_promises(plan: Plan, seed: int, behaviour: Behaviour) -> None:
    hypothesis.assume(fits(plan))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert fleet.finish is not None
    assert all(task.state in TERMINAL for task in fleet.scheduler.run.tasks)
    if fleet.finish.outcome is Outcome.COMPLETED:
        for task in fleet.scheduler.run.tasks:
            is_expected = task.plan.on_failure == "continue" or task.state in (
                TaskState.COMPLETED,
                TaskState.SKIPPED,
                TaskState.CANCELLED,
            )
            assert is_expected, f"{task.plan.name} is {task.state}, and the run completed"
    else:
        assert fleet.finish.cause is not None


@hypothesis.settings(deadline=None, max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_a_journal_replays_to_the_same_commands(plan: Plan, seed: int, behaviour: Behaviour) -> None:
    hypothesis.assume(fits(plan))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert replay(plan, fleet.driver.journal, behaviour.fence_s, behaviour.window) == fleet.driver.commands


@hypothesis.settings(deadline=None, max_examples=100, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32))
def test_a_bad_link_alone_never_fails_a_run(plan: Plan, seed: int) -> None:
    hypothesis.assume(fits(plan))
    hypothesis.assume(not any(task.timeout_s or task.wait_s or task.is_main for task in plan.tasks))
    fleet = Fleet(plan, seed, Behaviour(drop=0.3, repeat=0.3, max_delay_s=0.5, disconnects=3, leftovers=0.2))
    fleet.run()
    assert fleet.finish is not None
    assert fleet.finish.outcome is Outcome.COMPLETED
    if not any(task.finally_when for task in plan.tasks):
        ran = [task for task in fleet.scheduler.run.tasks if not is_after_failure(plan, task.plan)]
        assert all(task.state is TaskState.COMPLETED for task in ran)


@hypothesis.settings(deadline=None, max_examples=100, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32), killed_at=st.floats(0.0, 20.0))
def test_a_controller_that_dies_never_fails_a_run(plan: Plan, seed: int, killed_at: float) -> None:
    hypothesis.assume(fits(plan))
    hypothesis.assume(not any(task.timeout_s or task.wait_s or task.is_main for task in plan.tasks))
    behaviour = Behaviour(max_delay_s=0.1, leftovers=0.2, takeovers=(killed_at, killed_at + 2.5))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert fleet.finish is not None
    assert fleet.finish.outcome is Outcome.COMPLETED
    attempts = [task.attempt.number for task in fleet.scheduler.run.tasks]
    assert max(attempts) == 1  # nothing is started again


@hypothesis.settings(deadline=None, max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32), suspended_at=st.floats(0.0, 20.0))
def test_p5_a_suspension_costs_no_node(plan: Plan, seed: int, suspended_at: float) -> None:
    """Whatever is under way: stops with their graces, logs that are waited for, agents that leave."""
    hypothesis.assume(fits(plan))
    behaviour = Behaviour(max_delay_s=0.1, leftovers=0.2, fail=0.1, suspensions=((suspended_at, 3600.0),))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run(20_000.0)
    assert not any(node.is_gone for node in fleet.scheduler.run.nodes)


def is_after_failure(plan: Plan, task: PlannedTask) -> bool:
    """True for a task that only runs when another one fails, or needs one that does."""
    pending = [task]
    while pending:
        for dependency in pending.pop().depends_on:
            if dependency.until == "failed":
                return True
            pending += [other for other in plan.tasks if dependency.task in (other.name, other.base)]
    return False


@hypothesis.settings(deadline=None, max_examples=30, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32), takes_over=st.booleans())
def test_no_request_loses_a_rank_or_starts_a_task_twice(plan: Plan, seed: int, takes_over: bool) -> None:
    hypothesis.assume(fits(plan))
    behaviour = Behaviour(
        max_delay_s=0.2,
        keeps_order=True,  # else a fact may take longer than an agent has to end an attempt
        fail=0.1,
        leftovers=0.2,
        requests=12,
        takeovers=(1.0, 4.0) if takes_over else (),
    )
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    started = [rank for agent in fleet.agents for rank in agent.started]
    assert len(started) == len(set(started)), "a rank was started twice"
    assert not any(node.is_gone for node in fleet.scheduler.run.nodes), "a healthy node was given up"
    assert not [one for agent in fleet.agents for one in agent.processes.values() if one.is_running]
    for task in fleet.scheduler.run.tasks:
        numbers = {rank.attempt.number for rank in started if rank.attempt.task == task.plan.name}
        assert numbers <= set(range(1, task.attempt.number + 1)), (
            "an attempt that the scheduler does not know"
        )
