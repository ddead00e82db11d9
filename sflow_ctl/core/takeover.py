"""Rebuilds the scheduler of a controller that was killed from its journal, and names what its successor has to do again.

Pure. What agents have to be told again is not here: each says hello to the successor, and `reconciliation` compares.
Called by `runtime/run/takeover.py`.
"""

from collections.abc import Iterable

from msgspec import Struct, field

from protocol.ids import RankId
from sflow_ctl.core.checkpoint.lazy_tasks import made
from sflow_ctl.core.commands import (
    AbandonNode,
    AwaitLog,
    CollectOutputs,
    Command,
    FinishRun,
    RecordCheckpoint,
    RecordTransition,
    RecordUploads,
    RenderTexts,
)
from sflow_ctl.core.events import SchedulerEvent, StopRequested
from sflow_ctl.core.rendering import decided_by
from sflow_ctl.core.scheduler import Scheduler


class Recorded(Struct, frozen=True):
    """How many changes the killed controller had recorded of what it decided. Further ones were lost with it."""

    transitions: int = 0
    uploads: int = 0
    checkpoints: int = 0


class Rebuilt(Struct):
    """What a successor does before it takes in anything new."""

    lost: list[RecordTransition | RecordUploads | RecordCheckpoint] = field(default_factory=list)
    """Changes that were decided and not recorded, in order."""
    again: list[Command] = field(default_factory=list)
    """Commands whose outcome is still to come, and those whose effect ended with the process that performed them."""
    stops: int = 0
    """How often the run was asked to stop: the next request is one more."""


def rebuild(
    scheduler: Scheduler,
    history: Iterable[tuple[float, SchedulerEvent]],
    recorded: Recorded,
    stops: int = 0,
) -> Rebuilt:
    """Give a new scheduler the events of the killed controller at their times, and return what has to be done again.

    The scheduler must have been made with the same arguments, or restored from a checkpoint: then `history` and `recorded` are
    of what followed, and `stops` is of the time before. Its times are those of `history`.
    """
    rebuilt = Rebuilt(stops=stops)
    transitions = uploads = checkpoints = 0
    finish: FinishRun | None = None
    for now, event in history:
        rebuilt.stops += isinstance(event, StopRequested)
        for command in scheduler.handle(event, now):
            match command:
                case RecordTransition():
                    transitions += 1
                    if transitions > recorded.transitions:
                        rebuilt.lost.append(command)
                case RecordUploads():
                    uploads += 1
                    if uploads > recorded.uploads:
                        rebuilt.lost.append(command)
                case RecordCheckpoint():
                    checkpoints += 1
                    if checkpoints > recorded.checkpoints:
                        rebuilt.lost.append(command)
                case FinishRun():
                    finish = command
                case _:
                    pass  # agents hear it again when they have said hello; warnings were shown
    rebuilt.again = _outstanding(scheduler)
    if finish is not None:
        rebuilt.again.append(finish)
    return rebuilt


def _outstanding(scheduler: Scheduler) -> list[Command]:
    """Return the commands whose effect or outcome the state still needs."""
    run = scheduler.run
    commands: list[Command] = [
        AbandonNode(node=index, reason="the run continues without this node")
        for index, node in enumerate(run.nodes)
        if node.is_gone
    ]
    for index in sorted(run.rendering):
        task = run.tasks[index]
        commands.append(RenderTexts(task=task.plan.name, attempt=task.attempt.number))
    for index in sorted(run.deciding):
        task = run.tasks[index]
        commands.append(RenderTexts(task=task.plan.name, attempt=task.attempt.number, what=decided_by(task)))
    for task in made(run.tasks):
        if not task.attempt.held:
            continue
        collects = False
        for rank, held in sorted(task.attempt.held.items()):
            if held.awaits == "log":
                commands.append(AwaitLog(rank=RankId(task.attempt_id, rank)))
            collects = collects or held.awaits == "outputs"
        if collects:
            commands.append(CollectOutputs(task=task.plan.name, attempt=task.attempt.number))
    return commands
