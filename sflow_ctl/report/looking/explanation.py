"""Why a task of a run waits, runs without being ready, or has ended: sentences for `explain`.

Made from the plan and the changes of state alone, so that it says the same of a live run and of one long ended. What only the
scheduler knows (orders on their way, the delay before a retry) is named as such, not guessed. Pure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from protocol.messages.checks import Probe
from protocol.messages.handover import CheckpointChoice
from protocol.text.counted import counted
from protocol.text.listing import listed
from protocol.text.signal_names import signal_name
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState, Transition
from sflow_ctl.plan.graph import until_text
from sflow_ctl.plan.model import Dependency, PlannedTask
from sflow_ctl.report.looking.places import place_lines
from sflow_ctl.report.not_started import needed, unmet_members
from sflow_ctl.report.run_view import FAILURES, RunView, TaskRecord
from sflow_ctl.report.words import duration_text, exit_text, node_name

S = TaskState
SHOWN = 5
_DEEPEST = 20
"""Tasks that failed one because of the other: a chain is followed so far."""

Kind = Literal["dependency", "place", "probe", "retry", "end", "process", "cause", "attempt", "progress"]


class Because(msgspec.Struct, frozen=True, kw_only=True):
    """One reason why a task is as it is."""

    kind: Kind
    """What it is about."""
    text: str
    """The sentence."""
    task: str | None = None
    """The other task that it is about."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why one task is as it is."""

    task: str
    """The concrete task."""
    state: TaskState
    """Its state."""
    headline: str
    """The task and its state as a sentence."""
    because: tuple[Because, ...] = ()
    """The reasons, the first cause first."""
    needs_log: bool = False
    """The end of its log is evidence."""
    rank: int | None = None
    """The process whose log that is, of several."""


class RunFactsNow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run."""

    state: RunView
    history: Mapping[str, Sequence[tuple[int, Transition]]]
    """The changes of each task with their wall times in ns, oldest first."""
    now_ns: int
    """For a run that is not live the last time that is known of it."""
    joined: frozenset[int]
    """Nodes whose agents have joined."""
    lost: Mapping[int, str]
    """Nodes that were lost, and why."""
    is_live: bool
    probe_text: Callable[[PlannedTask, Probe], str]
    """Returns what a probe of a task asks."""

    def since(self, name: str) -> str:
        """Return for how long a task has been in its state, as ` for 12 s`; empty if the run is over or that is not known."""
        changes = self.history.get(name) if self.is_live else None
        return f" for {duration_text(max(0.0, (self.now_ns - changes[-1][0]) / 1e9))}" if changes else ""


def explain(run: RunFactsNow, name: str) -> Explanation:
    """Return why a task is as it is."""
    record = run.state.tasks[name]
    task = next(task for task in run.state.plan.tasks if task.name == name)
    because = tuple(_reasons(run, task, record))
    is_bad = record.state in FAILURES or (record.state is S.CANCELLED and record.attempts > 0)
    return Explanation(
        task=name,
        state=record.state,
        headline=_headline(run, task, record),
        because=because,
        needs_log=is_bad or (record.state is S.RUNNING and task.has_readiness),
        rank=record.reason.rank if record.reason is not None else None,
    )


def needs_a_word(run: RunFactsNow, task: PlannedTask) -> bool:
    """Return whether a task is worth a word where all are asked about: it waits, is not ready, or did not complete."""
    record = run.state.tasks[task.name]
    if task.removed_in:
        return False
    if record.state is S.RUNNING:
        return task.has_readiness
    return record.state not in (S.COMPLETED, S.READY)


def _headline(run: RunFactsNow, task: PlannedTask, record: TaskRecord) -> str:
    state, since = record.state, run.since(record.name)
    if state in TERMINAL:
        took = "" if record.runtime_s is None else f" after {duration_text(record.runtime_s)}"
        code = exit_text(record.exit_code, record.signal)
        status = "" if code == "-" else f", {'exit status ' if record.signal is None else ''}{code}"
        return f"{record.name} {'did not run' if not record.attempts and state is not S.COMPLETED else state.value}{took}{status}"
    if not run.is_live:
        return f"{record.name} was {state.value} when the run ended"
    where = (
        f" on {node_name(run.state.plan, record.node)}" if state in LIVE and record.node is not None else ""
    )
    unready = ", not ready" if state is S.RUNNING and task.has_readiness else ""
    return f"{record.name} is {state.value}{where}{since}{unready}"


def _reasons(run: RunFactsNow, task: PlannedTask, record: TaskRecord) -> Iterator[Because]:
    yield from _earlier_attempts(run, record)
    about = f'task "{task.name}" gets '
    for note in run.state.plan.notes:
        if note.code == "gpu-sizing" and note.what.startswith(about):
            yield Because(kind="place", text=note.what.removeprefix(f'task "{task.name}" '))
    match record.state:
        case S.WAITING:
            yield from _waiting(run, task, record)
        case S.QUEUED:
            yield from _placed(run, task)
        case S.STARTING:
            text = f"its {counted(task.world_size, 'process')} or their ports are ordered; its node has not reported them yet"
            yield Because(kind="process", text=text)
        case S.RUNNING:
            yield from _running(run, task, record)
        case S.READY:
            text = (
                record.reason.text
                if record.reason is not None and record.reason.text
                else "its readiness probe has triggered"
            )
            yield Because(kind="probe", text=text)
        case S.STOPPING:
            yield from _stopping(task, record)
        case S.COMPLETED:
            if record.reason is not None and record.reason.text:
                yield Because(kind="end", text=record.reason.text)
        case _:
            yield from _ended(run, task, record)


def _placed(run: RunFactsNow, task: PlannedTask) -> Iterator[Because]:
    """Say what would have to be free for a task."""
    live = [one.name for one in run.state.tasks.values() if one.state in LIVE]
    limit = run.state.plan.max_running
    if limit is not None and len(live) >= limit:
        text = f"at most {counted(limit, 'task')} may run at once (max_running); now: {listed(live, SHOWN)}"
        yield Because(kind="place", text=text)
    for text in place_lines(run.state, task, run.joined, run.lost):
        yield Because(kind="place", text=text)


def _waiting(run: RunFactsNow, task: PlannedTask, record: TaskRecord) -> Iterator[Because]:
    if record.reason is not None and record.reason.word in ("retry", "restart"):
        yield Because(kind="retry", text=record.reason.text or "its next attempt follows after a delay")
        return
    members = task_members(run)
    needs = [one for dependency in task.depends_on for one in _dependency(run, dependency, members)]
    yield from needs
    if task.finally_when is not None:
        yield Because(kind="end", text="it runs when the run ends")
    elif not needs and run.is_live:  # a task that may start at once is queued without a change of state
        yield from _placed(run, task)


def task_members(run: RunFactsNow) -> dict[str, Sequence[PlannedTask]]:
    """Return the tasks by their base names and by their own."""
    named: dict[str, Sequence[PlannedTask]] = {task.name: [task] for task in run.state.plan.tasks}
    return {**named, **run.state.plan.members()}


def _dependency(
    run: RunFactsNow, dependency: Dependency, members: Mapping[str, Sequence[PlannedTask]]
) -> Iterator[Because]:
    lacking = unmet_members(run.state, dependency, members)
    if not lacking:
        return
    group = members[dependency.task]
    until = until_text(dependency, group[0]).lower()
    if dependency.is_group:
        wanted, there = needed(dependency, members), len(group) - len(lacking)
        are = "is" if there == 1 else "are"
        text = f"it needs {wanted} of {len(group)} {dependency.task} to be {until}; {there} {are}"
        yield Because(kind="dependency", text=text, task=dependency.task)
    for name in lacking[:SHOWN]:
        prefix = "" if dependency.is_group else f"it needs {name} to be {until}; "
        yield Because(kind="dependency", text=f"{prefix}{_now(run, name)}", task=name)
    if len(lacking) > SHOWN:
        yield Because(kind="dependency", text=f"... and {len(lacking) - SHOWN} more", task=dependency.task)


def _now(run: RunFactsNow, name: str) -> str:
    """Return what another task is doing, and what that one waits for."""
    record = run.state.tasks[name]
    said = f"{name} {'is' if run.is_live else 'was'} {record.state.value}{run.since(name)}"
    if record.waits_for:
        return f"{said}, not ready: {record.waits_for}"
    if record.state in FAILURES and record.reason is not None:
        return f"{said}: {record.reason.text or record.reason.word}"
    return said


def _running(run: RunFactsNow, task: PlannedTask, record: TaskRecord) -> Iterator[Because]:
    for probe in task.probes if task.has_readiness else ():
        if probe.kind == "readiness":
            yield Because(kind="probe", text=f"it is ready once: {run.probe_text(task, probe)}")
    if task.has_readiness:
        answer = record.waits_for or "none yet; a probe that has not triggered reports after a second"
        yield Because(kind="probe", text=f"last answer: {answer}")
    if record.progress is not None:
        yield Because(kind="progress", text=f"it says that it is at {record.progress.text}")
    limits = (
        (task.deadline_s if task.has_readiness else None, "must be ready"),
        (task.timeout_s, "must end"),
    )
    for limit_s, what in limits:
        if limit_s is not None and record.started_wall_ns is not None and run.is_live:
            left_s = limit_s - (run.now_ns - record.started_wall_ns) / 1e9
            text = f"it {what} within {duration_text(limit_s)}: {duration_text(max(0.0, left_s))} are left"
            yield Because(kind="process", text=text)
    if not task.has_readiness:
        yield Because(kind="process", text="its process is running; it is done when that ends")


def _stopping(task: PlannedTask, record: TaskRecord) -> Iterator[Because]:
    if record.reason is not None:
        yield Because(kind="cause", text=record.reason.text or record.reason.word)
    how = f"{signal_name(task.stopping.signal)}, then SIGKILL {task.stopping.grace_s:g} s later"
    yield Because(kind="process", text=f"it is being ended by {how}")


def _earlier_attempts(run: RunFactsNow, record: TaskRecord) -> Iterator[Because]:
    """Say how the attempts before the last one ended."""
    choices = dict(record.checkpoints)
    for _, change in run.history.get(record.name, ()):
        if change.is_again:
            took = "" if change.runtime_s is None else f" after {duration_text(change.runtime_s)}"
            text = f"attempt {change.attempt} ended{took}: {change.reason.text or change.reason.after}"
            yield from _continued(change.attempt, choices)
            yield Because(kind="attempt", text=text)
    for attempt in list(choices):
        yield from _continued(attempt, choices, with_others=True)


def _continued(
    attempt: int, choices: dict[int, CheckpointChoice], *, with_others: bool = False
) -> Iterator[Because]:
    """Say once what an attempt continues from, if it has looked for something."""
    choice = choices.pop(attempt, None)
    if choice is None:
        return
    from sflow_ctl.report.checkpoint_text import continues_text, passed_over  # few tasks have any

    yield Because(kind="attempt", text=f"attempt {attempt} {continues_text(choice)}")
    for text in passed_over(choice) if with_others else ():
        yield Because(kind="attempt", text=text)


def _ended(run: RunFactsNow, task: PlannedTask, record: TaskRecord) -> Iterator[Because]:
    reason = record.reason
    if reason is None:
        text = (
            "its controller died while it ran; its agent stops it"
            if not run.is_live
            else "no reason is recorded"
        )
        yield Because(kind="cause", text=text)
        return
    yield Because(kind="cause", text=f"{reason.word}: {reason.text}" if reason.text else reason.word)
    if reason.line:
        number = "" if reason.line_number is None else f" {reason.line_number}"
        yield Because(kind="cause", text=f"line{number} of its log: {reason.line}")
    if reason.hint:
        yield Because(kind="cause", text=f"hint: {reason.hint}")
    if record.state in (S.SKIPPED, S.CANCELLED):
        root = root_failure(run, task)
        if root is not None:
            said = run.state.tasks[root]
            why = said.reason.text or said.reason.word if said.reason is not None else ""
            yield Because(
                kind="dependency", text=f"the first failure was {root}, {said.state.value}: {why}", task=root
            )


def root_failure(run: RunFactsNow, task: PlannedTask) -> str | None:
    """Return the failed task at the beginning of the chain that kept a task from running; None if none of its needs failed."""
    members, by_name = task_members(run), {one.name: one for one in run.state.plan.tasks}
    at, root = task, None
    for _ in range(_DEEPEST):
        bad = [
            name
            for dependency in at.depends_on
            for name in (one.name for one in members[dependency.task])
            if run.state.tasks[name].state in FAILURES | {S.SKIPPED, S.CANCELLED}
        ]
        failed = [name for name in bad if run.state.tasks[name].state in FAILURES]
        if not bad:
            return root
        if failed:
            root = failed[0]
        at = by_name[(failed or bad)[0]]
    return root
