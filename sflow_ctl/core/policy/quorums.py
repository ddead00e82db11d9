"""Counts the copies of a task of which a part is enough (`success: {min_count, min_ratio}`). Pure.

They are counted anew at each end that may decide something, so that a restored scheduler counts as the one before.
"""

from collections.abc import Sequence

from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TERMINAL, TaskState


def copies_of(tasks: Sequence[Task], task: Task) -> list[Task]:
    """Return the copies that count together with a task."""
    base = task.plan.base
    return [
        one for one in tasks if one.plan.base == base and not (one.wanted.removed_in or one.wanted.is_grown)
    ]


def why_unreachable(tasks: Sequence[Task], task: Task) -> str:
    """Say that too few copies can still complete, as a sentence without its subject; empty while enough can."""
    quorum, copies = task.plan.quorum, copies_of(tasks, task)
    assert quorum is not None
    size = sum(one.share for one in copies)
    lost = sum(
        one.share - one.share_left
        for one in copies
        if one.state in TERMINAL and one.state is not TaskState.COMPLETED
    )
    if size - lost >= quorum.needed:
        return ""
    what = "copies" if size == len(copies) else "items"
    return f"only {size - lost} of its {size} {what} could still complete, and {quorum.needed} must"


def rest_if_reached(tasks: Sequence[Task], task: Task) -> list[Task]:
    """Return the copies that have not ended, once enough others have completed; none before."""
    quorum, copies = task.plan.quorum, copies_of(tasks, task)
    assert quorum is not None
    done = sum(one.share if one.state is TaskState.COMPLETED else one.share_left for one in copies)
    if done < quorum.needed:
        return []
    return [one for one in copies if one.state not in TERMINAL]


def rest(tasks: Sequence[Task], task: Task) -> list[Task]:
    """Return the copies that have not ended."""
    return [one for one in copies_of(tasks, task) if one.state not in TERMINAL]
