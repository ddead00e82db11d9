"""Runs of which reports are made: plans, and the changes of state that a journal would have of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from protocol.messages.checks import LogCheck, LogPattern, Probe
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState, Transition
from sflow_ctl.plan.model import Dependency, Placement, Plan, PlannedNode, PlannedTask
from sflow_ctl.report.page.document import PageFiles
from sflow_ctl.report.run_report.building import RunRecord
from sflow_ctl.report.run_report.courses import Courses
from sflow_ctl.report.run_report.model import UsageReport
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary, summary

S = TaskState
BEGAN = 1_700_000_000_000_000_000
FILES = PageFiles(
    style="p {}", script="go()", library_style="", library="lib()", version="1", library_version="2"
)
READY = Probe(kind="readiness", checks=(LogCheck(pattern=LogPattern(pattern="up")),))


def task(
    name: str,
    *after: str,
    base: str = "",
    serves: bool = False,
    gpus: tuple[int, ...] = (),
    sweep: tuple[tuple[str, str], ...] = (),
    **others: Any,
) -> PlannedTask:
    return PlannedTask(
        name=name,
        base=base or name,
        backend="local",
        operator="bash",
        operator_kind="bash",
        argv=("bash",),
        script="true",
        env={},
        depends_on=tuple(Dependency(task=one) for one in after),
        placement=Placement(nodes=(0,), gpus=gpus),
        probes=(READY,) if serves else (),
        sweep=sweep,
        **others,
    )


def plan(*tasks: PlannedTask, nodes: int = 1, **others: Any) -> Plan:
    made = tuple(
        PlannedNode(
            index=number,
            backend="local",
            backend_index=number,
            name=f"n{number}",
            address="127.0.0.1",
            gpus=8,
        )
        for number in range(nodes)
    )
    return Plan(workflow="wf", nodes=made, tasks=tasks, **others)


class Story:
    """The changes of state of a run, told in seconds after its beginning."""

    def __init__(self, of: Plan) -> None:
        self.plan = of
        self.state = RunView(of)
        self.courses = Courses()

    def change(self, at_s: float, name: str, old: TaskState, new: TaskState, **others: Any) -> None:
        reason = others.pop("reason", Reason("exit", "because"))
        attempt = others.pop("attempt", 1)
        at = BEGAN + int(at_s * 1e9)
        made = Transition(task=name, attempt=attempt, old=old, new=new, reason=reason, **others)
        self.state.apply(made, at)
        self.courses.note(made, at)

    def start(self, at_s: float, name: str, *, runs: float | None = None, **others: Any) -> None:
        others.setdefault("node", 0)
        self.change(at_s, name, S.QUEUED, S.STARTING, **others)
        self.change(at_s if runs is None else runs, name, S.STARTING, S.RUNNING, **others)

    def end(self, at_s: float, name: str, new: TaskState = S.COMPLETED, **others: Any) -> None:
        others.setdefault("exit_code", 0 if new is S.COMPLETED else 1)
        self.change(at_s, name, S.RUNNING, new, **others)

    def ended(
        self, at_s: float, outcome: Outcome = Outcome.COMPLETED, cause: FirstCause | None = None
    ) -> Summary:
        return summary(
            self.state,
            outcome,
            cause,
            run_id="r",
            exit_status=0 if outcome is Outcome.COMPLETED else 1,
            started_wall_ns=BEGAN,
            ended_wall_ns=BEGAN + int(at_s * 1e9),
        )

    def record(
        self,
        end: Summary | None = None,
        *,
        outputs: Mapping[str, Mapping[str, Any]] | None = None,
        results: tuple[Sequence[str], Sequence[Sequence[Any]]] | None = None,
        usage: UsageReport | None = None,
        liveness: str = "running",
        now_s: float = 100.0,
        log_tail: Sequence[str] = (),
    ) -> RunRecord:
        return RunRecord(
            run_id="r",
            directory="/runs/r",
            shown="runs/r",
            host="n0",
            command=("sflow-ctl", "run", "wf.yaml"),
            state=self.state,
            courses=self.courses,
            began_ns=BEGAN,
            now_ns=BEGAN + int(now_s * 1e9),
            summary=end,
            liveness=liveness,
            outputs=outputs or {},
            results=results,
            usage=usage,
            log_tail=log_tail,
            versions={"sflow-ctl": "1"},
        )


def chain() -> Story:
    """A service that is ready after 3 s, a task that needs it and is retried, and one that fails after that."""
    story = Story(plan(task("srv", serves=True, gpus=(0, 1)), task("work", "srv"), task("last", "work")))
    story.start(0.5, "srv", runs=1.0, gpus=(0, 1))
    story.change(4.0, "srv", S.RUNNING, S.READY)
    story.change(4.0, "work", S.WAITING, S.QUEUED, attempt=0)
    story.start(4.0, "work", runs=4.5)
    story.change(
        6.0, "work", S.RUNNING, S.WAITING, exit_code=3, reason=Reason("retry", "exit status 3", after="exit")
    )
    story.change(7.0, "work", S.WAITING, S.QUEUED)
    story.start(7.0, "work", runs=7.25, attempt=2)
    story.end(9.0, "work", attempt=2, runtime_s=1.75)
    story.change(9.0, "last", S.WAITING, S.QUEUED, attempt=0)
    story.start(9.0, "last")
    story.end(9.5, "last", S.FAILED, reason=Reason("exit", "exit status 1", hint="look there"))
    story.change(9.5, "srv", S.READY, S.STOPPING, reason=Reason("fail_fast", "task last failed"))
    story.change(
        10.0, "srv", S.STOPPING, S.CANCELLED, signal=15, reason=Reason("fail_fast", "task last failed")
    )
    return story


def many(count: int) -> Story:
    """Tasks that ran beside each other on one node, all of them replicas."""
    story = Story(plan(*(task(f"t_{n}", base="t") for n in range(count))))
    for number in range(count):
        story.start(number / 100, f"t_{number}")
        story.end(number / 100 + 1, f"t_{number}", S.FAILED if number % 100 == 7 else S.COMPLETED)
    return story


def without(of: Plan, *names: str) -> Plan:
    return replace(of, tasks=tuple(one for one in of.tasks if one.name not in names))
