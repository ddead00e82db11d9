"""A change of a task's state as a line of the run's log. Called by the controller."""

from sflow_ctl.core.states import TERMINAL, TaskState, Transition

_WITH_REASON = TERMINAL | {TaskState.READY, TaskState.STOPPING, TaskState.WAITING}


def transition_text(transition: Transition) -> str:
    """Return the change with its reason, node and duration, as far as they are known."""
    new = transition.new
    number = f"#{transition.attempt}" if transition.attempt else ""
    text = f"{transition.task}{number} {transition.old} -> {new}"
    if new in _WITH_REASON:
        text = f"{text}, {transition.reason.text or transition.reason.word}"
    if transition.pid is not None:
        text = f"{text}, node={transition.node} pid={transition.pid}"
    if transition.runtime_s is not None:
        text = f"{text}, after {transition.runtime_s:.3f} s"
    return text
