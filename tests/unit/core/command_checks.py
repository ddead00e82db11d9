"""Why each command of a scheduler may be given: checked for every command of every test and simulated run.

`check_invariants` looks at the run between two events; this looks at what leaves it.
"""

from typing import assert_never

from protocol.ids import AttemptId, RankId
from protocol.messages.orders import (
    CheckInputs,
    ConfirmLife,
    EndStep,
    FindCheckpoint,
    FindOutputs,
    Lease,
    Leave,
    Release,
    SignalAttempt,
    Spawn,
    Stop,
    ToAgent,
    UploadFiles,
)
from sflow_ctl.core.commands import (
    AbandonNode,
    AcceptAgent,
    AnswerRequest,
    AskJobEnd,
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
from sflow_ctl.core.invariants import is_satisfied
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.requests import RequestAnswer
from sflow_ctl.core.states import LIVE, TERMINAL, TRANSITIONS, TaskState, Transition
from sflow_ctl.plan.deferred import needs_rendering
from sflow_ctl.plan.revisions.growing import late_list


class CommandChecks:
    """The commands of one run so far, as far as later ones depend on them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._states = {task.plan.name: task.state for task in run.tasks}
        self._newest_spawned: dict[str, int] = {}
        self._spawned: set[RankId] = set()
        """Ranks whose order to start was given in the present session of their agent."""
        self._stopped: set[tuple[int, AttemptId]] = set()
        """Nodes and attempts whose order to stop was given in that session."""
        self._to_stop_again: set[tuple[int, AttemptId]] = set()
        """Those of which a rank was ordered to start after that."""
        self._accepted: set[int] = set()
        self._abandoned: set[int] = set()
        self._answers: dict[str, RequestAnswer] = {}
        self._uploaded: set[tuple[str, int]] = set()
        self._is_finished = False

    def check(self, command: Command) -> None:
        """Fail unless the run as it is after the event justifies a command of that event. In order of the commands."""
        assert not self._is_finished, f"after the last command: {command}"
        run = self._run
        match command:
            case RecordTransition(transition=transition):
                self._check_transition(transition)
                if (
                    transition.new is TaskState.STARTING
                ):  # a server may fail while the ports of its client are leased
                    for dependency in self._task(transition.task).plan.depends_on:
                        assert is_satisfied(run, dependency), f"{transition.task} before {dependency}"
            case SendToAgent(node=node, message=message):
                assert node in self._accepted, (
                    f"an order for node {node}, whose agent was not accepted: {message}"
                )
                assert node not in self._abandoned, f"an order for node {node}, which was given up: {message}"
                self._check_order(node, message)
            case AcceptAgent(node=node):
                assert node not in self._abandoned, f"node {node} was given up and is accepted"
                self._accepted.add(node)
                self._spawned = {
                    rank for rank in self._spawned if not self._is_on(rank, node)
                }  # a lost session may have lost orders
                self._stopped = {one for one in self._stopped if one[0] != node}
                self._to_stop_again = {one for one in self._to_stop_again if one[0] != node}
            case AbandonNode(node=node):
                assert run.nodes[node].is_gone, f"node {node} is abandoned and not lost"
                self._abandoned.add(node)
            case AwaitLog(rank=rank):
                assert self._task(rank.attempt.task).attempt.number == rank.attempt.number
            case CollectOutputs(task=name, attempt=attempt):
                assert self._task(name).plan.has_values, f"{name} has no outputs"
                assert self._task(name).attempt.number == attempt
            case RenderTexts(task=name, attempt=attempt, what=what):
                assert self._task(name).attempt.number == attempt
                if what == "when":
                    assert self._task(name).plan.when is not None
                    return
                if what in ("items", "block"):
                    plan = self._task(name).plan
                    assert (late_list(plan) if what == "items" else plan.block) is not None
                    return
                assert needs_rendering(self._task(name).plan), f"{name} has nothing to render"
            case RecordWaiting(task=name, text=text, what=what):
                uploads = (TaskState.READY,) if what == "uploads" else ()
                assert self._states[name] in (TaskState.RUNNING, *uploads)
                assert text
            case RecordCheckpoint(task=name, attempt=attempt):
                assert self._task(name).plan.checkpoint is not None, f"{name} has no checkpoints"
                assert self._task(name).attempt.number == attempt
            case RecordUploads(task=name, attempt=attempt):
                assert self._task(name).plan.uploads, f"{name} has no uploads"
                assert self._task(name).attempt.number == attempt
                self._uploaded.add((name, attempt))
            case RecordStall(task=name, attempt=attempt):
                assert self._task(name).attempt.number == attempt
                assert self._states[name] in (TaskState.RUNNING, TaskState.READY)
            case AskJobEnd():
                assert run.gone_at is not None
                assert run.outcome is None or run.shutdown.branch
            case Warn(text=text):
                assert text
            case AnswerRequest(id=request_id, answer=answer, is_repeated=is_repeated):
                assert is_repeated == (request_id in self._answers), f"request {request_id} is done twice"
                assert self._answers.setdefault(request_id, answer) == answer
                assert bool(answer.error) != bool(answer.text or answer.effects), answer
            case ReviseRun(plan=plan, text=text):
                assert plan is run.plan
                assert text
                for task in plan.tasks:
                    self._states.setdefault(task.name, TaskState.WAITING)
            case FinishRun(outcome=outcome):
                assert run.phase is RunPhase.FINISHED
                assert outcome is run.outcome
                self._is_finished = True
            case _:
                assert_never(command)

    def check_stops(self) -> None:
        """Fail if, after all commands of an event, an order to start a rank came after the last one to stop its attempt."""
        assert not self._to_stop_again, f"started after the order to stop: {self._to_stop_again}"

    def _task(self, name: str) -> Task:
        return self._run.task_named(name)

    def _is_on(self, rank: RankId, node: int) -> bool:
        attempt = self._task(rank.attempt.task).attempt
        return attempt.number != rank.attempt.number or attempt.node_of_rank[rank.rank] == node

    def _check_transition(self, transition: Transition) -> None:
        name, new = transition.task, transition.new
        is_of_resume = transition.reason.text.endswith("when the run was resumed")
        if transition.reason.word in ("resumed", "not_chosen") or is_of_resume:
            return  # its old state is that of an earlier controller
        assert transition.old is self._states[name], f"{name} was {self._states[name]}: {transition}"
        assert new in TRANSITIONS[transition.old]
        self._states[name] = new
        if new is TaskState.COMPLETED and transition.reason.word == "exit":
            run = self._run
            has_outputs = bool(run.task_named(name).plan.outputs)
            is_known = name in run.outputs or run.shutdown.is_forced
            was_stopped = transition.old is TaskState.STOPPING
            assert is_known or was_stopped or not has_outputs, f"{name}: outputs are lost"
            has_uploads = bool(run.task_named(name).plan.uploads)
            is_done = (name, transition.attempt) in self._uploaded or run.shutdown.is_forced
            assert is_done or was_stopped or not has_uploads, f"{name}: completed before its uploads"

    def _check_order(self, node: int, message: ToAgent) -> None:
        match message:
            case Spawn(ranks=ranks):
                for spec in ranks:
                    self._check_spawn(node, spec.rank)
            case Stop(attempt=attempt):
                task = self._task(attempt.task)
                assert attempt.number == task.attempt.number, "an order to stop an old attempt"
                places = {*task.attempt.node_of_rank, *task.attempt.uploading}
                assert node in places, f"{attempt} has nothing on node {node}"
                state = self._states[attempt.task]
                assert state not in (TaskState.WAITING, TaskState.QUEUED, TaskState.SKIPPED), (
                    f"{attempt} is {state}"
                )
                self._stopped.add((node, attempt))
                self._to_stop_again.discard((node, attempt))
            case SignalAttempt(attempt=attempt):
                task = self._task(attempt.task)
                assert attempt.number == task.attempt.number, "a signal for an old attempt"
                assert node in task.attempt.node_of_rank, f"{attempt} has nothing on node {node}"
                assert self._states[attempt.task] in LIVE
            case EndStep(part=part, mark_of=mark_of):
                task = self._task(part.attempt.task)
                assert part.attempt == mark_of.attempt
                assert part.attempt.number == task.attempt.number, "an order to end a step of an old attempt"
                assert task.attempt.node_of_part[part.rank] == node, f"{part} is on another node"
            case Leave():
                assert all(state in TERMINAL for state in self._states.values()), "told to leave too early"
            case Lease(task=name) | Release(task=name):
                plan = self._task(name).plan
                has_ports = plan.ports or plan.has_master_port or self._run.plan.revision > 1
                assert has_ports, f"{name} has no ports"
            case FindCheckpoint(attempt=attempt):
                task = self._task(attempt.task)
                assert attempt.number == task.attempt.number, (
                    "an order about the checkpoint of an old attempt"
                )
                is_withdrawn = task.state not in LIVE  # by what follows in the same turn
                assert is_withdrawn or node == task.attempt.seeking_on, (
                    f"{attempt} does not look on node {node}"
                )
                assert task.attempt.is_seeking or is_withdrawn, f"{attempt} looks for nothing"
            case ConfirmLife(number=number):
                assert self._run.timers.question_of(node) == number, "a question that nothing waits for"
                assert self._run.nodes[node].is_up
            case FindOutputs(attempt=attempt, rules=rules):
                task = self._task(attempt.task)
                assert attempt.number == task.attempt.number, "an order about the outputs of an old attempt"
                assert rules == task.plan.found
                assert task.attempt.held.keys() == task.attempt.open_ranks, f"{attempt} still runs"
                assert task.attempt.finding_on == node
            case CheckInputs(attempt=attempt):
                task = self._task(attempt.task)
                assert attempt.number == task.attempt.number, "an order about the inputs of an old attempt"
                is_withdrawn = task.state not in LIVE  # by what follows in the same turn
                assert node in task.attempt.checking or is_withdrawn, f"{attempt} has nothing to check there"
            case UploadFiles(attempt=attempt):
                task = self._task(attempt.task)
                assert attempt.number == task.attempt.number, "an order to upload for an old attempt"
                assert node in task.attempt.places, f"{attempt} has no files on node {node}"
                assert task.attempt.held.keys() == task.attempt.open_ranks, f"{attempt} still runs"
            case _:
                raise AssertionError(f"the scheduler never sends this: {message}")

    def _check_spawn(self, node: int, rank: RankId) -> None:
        task, number = self._task(rank.attempt.task), rank.attempt.number
        assert number == task.attempt.number, "an order to start an old attempt"
        assert task.attempt.node_of_rank[rank.rank] == node, f"{rank} is started on another node than its own"
        assert rank not in self._spawned, f"{rank} is ordered twice"
        if (node, rank.attempt) in self._stopped:
            self._to_stop_again.add((node, rank.attempt))
        self._spawned.add(rank)
        if self._newest_spawned.get(task.plan.name, 0) < number:
            assert task.state in LIVE
            is_final = task.plan.finally_when is not None
            is_late = is_final or task.index in self._run.shutdown.branch
            assert self._run.outcome is None or is_late, "started at the wrong time"
            assert self._run.outcome is not None or not is_final, "started before the end"
            self._newest_spawned[task.plan.name] = number
