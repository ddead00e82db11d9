"""Drives a scheduler by events: the one harness of all its tests.

Every command is checked: `command_checks` knows why each may be given, and a command of an exceptional kind that a
test ignores fails the test, at the next event or at its end.
"""

from collections.abc import Iterator
from typing import Any, Self, SupportsIndex, TypeVar, cast, overload

from protocol.messages.orders import ConfirmLife, Lease, Spawn, Stop, ToAgent
from sflow_ctl.core.commands import (
    AbandonNode,
    AcceptAgent,
    AnswerRequest,
    AwaitLog,
    CollectOutputs,
    Command,
    FinishRun,
    RecordCheckpoint,
    RecordStall,
    RecordTransition,
    RecordUploads,
    RecordWaiting,
    RenderTexts,
    ReviseRun,
    SendToAgent,
    Warn,
)
from sflow_ctl.core.events import AgentLost, SchedulerEvent, TextsRendered, WakeUp
from sflow_ctl.core.invariants import check_invariants
from sflow_ctl.core.model.resources import MAX_RANKS
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.requests import Plans, no_plans
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import TaskState, Transition
from sflow_ctl.core.takeover import Rebuilt, Recorded, rebuild
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Plan
from tests.unit.core.command_checks import CommandChecks
from tests.unit.core.lines import command_line
from tests.unit.core.plans import confirmed, exited, goodbye, hello, ready, started

EXCEPTIONAL = (
    RecordCheckpoint,
    AbandonNode,
    AnswerRequest,
    AwaitLog,
    CollectOutputs,
    RecordStall,
    RecordUploads,
    RecordWaiting,
    ReviseRun,
    Warn,
    FinishRun,
)
"""Commands that a test must look at, and an `AcceptAgent` that kills. The others follow from a run's ordinary course."""

C = TypeVar("C", bound=Command)
M = TypeVar("M", bound=ToAgent)


class Lines(list[str]):
    """The commands that events have led to, as lines. To look at one is to expect it; to compare all expects all."""

    def __init__(self, commands: list[Command]) -> None:
        super().__init__(command_line(command) for command in commands)
        self._commands = commands
        self._unseen = {
            index
            for index, command in enumerate(commands)
            if isinstance(command, EXCEPTIONAL) or (isinstance(command, AcceptAgent) and command.kill)
        }

    def of(self, kind: type[C]) -> list[C]:
        """Return the commands of a kind."""
        found: list[C] = []
        for index, command in enumerate(self._commands):
            if isinstance(command, kind):
                self._unseen.discard(index)
                found.append(command)
        return found

    def orders(self, kind: type[M]) -> list[M]:
        """Return the orders of a kind for agents."""
        return [one.message for one in self.of(SendToAgent) if isinstance(one.message, kind)]

    def transitions(self) -> list[Transition]:
        """Return the changes of state."""
        return [one.transition for one in self.of(RecordTransition)]

    def moves(self) -> list[str]:
        """Return the changes of state as `TASK STATE`."""
        return [f"{one.task} {one.new}" for one in self.transitions()]

    def ignored(self) -> list[str]:
        """Return the exceptional commands that the test has not looked at."""
        return [super(Lines, self).__getitem__(index) for index in sorted(self._unseen)]

    def __eq__(self, other: object) -> bool:
        self._unseen.clear()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        self._unseen.clear()
        return super().__ne__(other)

    __hash__ = None  # as a list's

    def __contains__(self, line: object) -> bool:
        self._unseen -= {index for index, one in enumerate(super().__iter__()) if one == line}
        return super().__contains__(line)

    def __iter__(self) -> Iterator[str]:
        self._unseen.clear()
        return super().__iter__()

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        looked_at = range(len(self))[index]
        self._unseen -= set(looked_at if isinstance(looked_at, range) else (looked_at,))
        return super().__getitem__(index)


class Driver:
    """A scheduler, the time, and everything that it has ordered. `options` are the scheduler's."""

    drivers: list["Driver"] = []  # noqa: RUF012 - those of the present test
    """`conftest` looks at them when the test is over."""

    def __init__(self, plan: Plan, **options: Any) -> None:
        self.plans: dict[str, Plan] = {}
        """Those that may be applied, by the names of their files."""
        options = {"evaluator": EVALUATOR, "plans": self.plans.__getitem__, **options}
        self.scheduler = Scheduler(plan, **options)
        self.now = 0.0
        self.renders = True
        """Whether calls evaluate deferred values."""
        self.confirms = True
        """Whether agents confirm at once that they run."""
        self.commands: list[Command] = []
        """All so far."""
        self.journal: list[tuple[float, SchedulerEvent]] = []
        self._checks = CommandChecks(self.scheduler.run)
        self._lines = Lines([])
        """Those of the last call."""
        check_invariants(self.scheduler.run)
        Driver.drivers.append(self)

    @classmethod
    def joined(cls, plan: Plan, *nodes: int, **options: Any) -> Self:
        """Return a driver whose agents on `nodes`, or on all nodes, have reported."""
        driver = cls(plan, **options)
        driver(*(hello(node) for node in nodes or range(len(plan.nodes))))
        return driver

    def __call__(self, *events: SchedulerEvent, now: float | None = None) -> Lines:
        """Give the scheduler events at one time; return its commands."""
        self.check_nothing_ignored()
        self.now = self.now if now is None else now
        commands = [command for event in events for command in self._handle_all(event)]
        self._lines = Lines(commands)
        return self._lines

    def _handle_all(self, event: SchedulerEvent) -> list[Command]:
        """Give the scheduler an event, and at once the values that it asks for; those orders are not among its commands here."""
        commands: list[Command] = []
        for command in self.handle(event, self.now):
            if isinstance(command, RenderTexts) and self.renders:
                commands += self._handle_all(rendered(self.scheduler, command))
            elif (
                isinstance(command, SendToAgent)
                and isinstance(command.message, ConfirmLife)
                and self.confirms
            ):
                commands += self._handle_all(confirmed(command.message.number, command.node))
            else:
                commands.append(command)
        return commands

    def handle(self, event: SchedulerEvent, now: float) -> list[Command]:
        """Give the scheduler one event and check its commands, which the caller answers for."""
        self.journal.append((now, event))
        commands = self.scheduler.handle(event, now)
        check_invariants(self.scheduler.run)
        for command in commands:
            self._checks.check(command)
        self._checks.check_stops()
        self.commands += commands
        return commands

    def rebuild(self, journal: list[tuple[float, SchedulerEvent]], recorded: Recorded) -> Rebuilt:
        """Rebuild the scheduler from the journal of a controller that was killed; check its commands once more."""
        driver = self

        class Checked:
            """The scheduler, as `rebuild` uses it."""

            run = self.run

            def handle(self, event: SchedulerEvent, now: float) -> list[Command]:
                return driver.handle(event, now)

        return rebuild(cast("Scheduler", Checked()), journal, recorded)

    def check_nothing_ignored(self) -> None:
        """Fail if the test has not looked at an exceptional command of the last call."""
        ignored, self._lines = self._lines.ignored(), Lines([])
        assert not ignored, f"the test does not expect: {ignored}"

    # ------------------------------------------------------------------ events of the ordinary course

    def start(self, *names: str) -> Lines:
        """Report the process of each task."""
        attempts = [(name, self.task(name).attempt) for name in names]
        return self(*(started(name, attempt.number, attempt.node or 0) for name, attempt in attempts))

    def serve(self, *names: str) -> Lines:
        """Report the process of each service, and that it is ready."""
        self.start(*names)
        attempts = [(name, self.task(name).attempt) for name in names]
        return self(*(ready(name, attempt.number, attempt.node or 0) for name, attempt in attempts))

    def end(self, name: str, code: int = 0, signal: int | None = None, node: int = 0) -> Lines:
        """Report the exit of a task's process."""
        return self(exited(name, code, self.task(name).attempt.number, node=node, signal=signal))

    def wake(self) -> Lines:
        """Let pass the time until something is due."""
        at = self.scheduler.next_wakeup()
        assert at is not None
        return self(WakeUp(), now=at)

    def lose(self, node: int, reason: str = "killed", now: float | None = None) -> Lines:
        """Report that an agent is lost: its node is given up."""
        lines = self(AgentLost(node=node, reason=reason), now=now)
        assert f"{node}: abandon" in lines
        return lines

    def leave(self) -> FinishRun:
        """Let all agents say goodbye: the run is over."""
        lines = self(*(goodbye(node) for node in range(len(self.run.nodes))))
        (finish,) = lines.of(FinishRun)
        return finish

    # ------------------------------------------------------------------ the run

    @property
    def run(self) -> Run:
        """The run's data."""
        return self.scheduler.run

    def task(self, name: str) -> Task:
        """Return the record of a task."""
        return self.run.task_named(name)

    def state(self, name: str) -> TaskState:
        """Return the state of a task."""
        return self.task(name).state

    def states(self, *names: str) -> list[TaskState]:
        """Return the states of tasks."""
        return [self.state(name) for name in names]

    def why(self, name: str) -> str:
        """Return the reason of a task's last change of state."""
        reason = self.task(name).last_reason
        assert reason is not None
        return f"{reason.word}: {reason.text}"

    def cause(self) -> str:
        """Return the sentence about what ended the run."""
        assert self.run.cause is not None
        return self.run.cause.text

    # ------------------------------------------------------------------ orders

    def orders(self) -> list[tuple[int, ToAgent]]:
        """Return the orders of the last call, with their nodes."""
        return [(one.node, one.message) for one in self._lines.of(SendToAgent)]

    def leases(self) -> list[tuple[int, str, int]]:
        """Return node, task and number of the ports that the last call asked for."""
        return [(node, one.task, one.number) for node, one in self.orders() if isinstance(one, Lease)]

    def envs(self) -> dict[str, dict[str, str]]:
        """Return the environments of the ranks that the last call ordered to start."""
        specs = [spec for _, one in self.orders() if isinstance(one, Spawn) for spec in one.ranks]
        return {str(spec.rank): spec.env for spec in specs}

    def spawned(self) -> list[str]:
        """Return the attempts of all ranks that were ordered to start."""
        return [str(spec.rank.attempt) for one in self._sent(Spawn) for spec in one.ranks]

    def stopped(self) -> list[str]:
        """Return the tasks of all orders to stop."""
        return [one.attempt.task for one in self._sent(Stop)]

    def _sent(self, kind: type[M]) -> list[M]:
        sent = [one.message for one in self.commands if isinstance(one, SendToAgent)]
        return [message for message in sent if isinstance(message, kind)]


def rendered(scheduler: Scheduler, order: RenderTexts) -> TextsRendered:
    """Evaluate the deferred values of an attempt, as the controller's shell does in its thread."""
    task = scheduler.run.task_named(order.task)
    if order.what == "when":
        return decided(scheduler, order)
    if order.what in ("items", "block"):
        return grown(scheduler, order)
    try:
        texts = scheduler.run.deferred.rendered(task.plan, task.attempt.ports)
    except ExpressionError as error:
        return TextsRendered(task=order.task, attempt=order.attempt, problem=error.text)
    return TextsRendered(task=order.task, attempt=order.attempt, texts=texts)


def decided(scheduler: Scheduler, order: RenderTexts) -> TextsRendered:
    """Evaluate the condition of a task, as the controller's shell does in its thread."""
    run = scheduler.run
    try:
        holds, operands = run.deferred.decided(run.task_named(order.task).plan)
    except ExpressionError as error:
        return TextsRendered(task=order.task, attempt=order.attempt, problem=error.text, what="when")
    return TextsRendered(task=order.task, attempt=order.attempt, what="when", holds=holds, operands=operands)


def grown(scheduler: Scheduler, order: RenderTexts) -> TextsRendered:
    """Evaluate what runs in the place of a task, as the controller's shell does in its thread."""
    run = scheduler.run
    plan = run.task_named(order.task).plan
    try:
        items = run.deferred.items(plan) if order.what == "items" else None
        step = run.deferred.block_step(plan) if order.what == "block" else None
    except ExpressionError as error:
        return TextsRendered(task=order.task, attempt=order.attempt, problem=error.text, what=order.what)
    return TextsRendered(task=order.task, attempt=order.attempt, what=order.what, items=items, step=step)


def replay(
    plan: Plan,
    journal: list[tuple[float, SchedulerEvent]],
    fence_s: float = 0.0,
    window: int = MAX_RANKS,
    plans: Plans = no_plans,
) -> list[Command]:
    """Return all commands of a scheduler that is given the same events at the same times."""
    scheduler = Scheduler(plan, evaluator=EVALUATOR, fence_s=fence_s, max_unanswered=window, plans=plans)
    return [command for now, event in journal for command in scheduler.handle(event, now)]
