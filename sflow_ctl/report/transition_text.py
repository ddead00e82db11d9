"""A change of a task's state as a line of the run's log. Called by the controller."""

from sflow_ctl.core.states import TERMINAL, TaskState, Transition


def transition_text(transition: Transition) -> str:
    """Return the change with its reason, node and duration, as far as they are known."""
    attempt = f"{transition.task}#{transition.attempt}" if transition.attempt else transition.task
    parts = [f"{attempt} {transition.old} -> {transition.new}"]
    if transition.new in TERMINAL or transition.new in (
        TaskState.READY,
        TaskState.STOPPING,
        TaskState.WAITING,
    ):
        parts.append(transition.reason.text or transition.reason.word)
    if transition.pid is not None:
        parts.append(f"node={transition.node} pid={transition.pid}")
    if transition.runtime_s is not None:
        parts.append(f"after {transition.runtime_s:.3f} s")
    return ", ".join(parts)
