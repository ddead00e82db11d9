"""Changes of state as text for `sflow.log`, and without the values of secrets. Pure. Called by the controller's loop."""

import msgspec

from sflow_ctl.core.states import TERMINAL, Reason, TaskState, Transition
from sflow_ctl.plan.secrets import SECRETS


def describe(transition: Transition) -> str:
    """Return a change of state as a line of `sflow.log`."""
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


def without_secrets(transition: Transition) -> Transition:
    """Return a change of state as viewers and records may have it: texts of programs may quote any value."""
    if not SECRETS.mask or transition.reason is None:
        return transition
    reason = msgspec.convert(SECRETS.mask.data(msgspec.to_builtins(transition.reason)), Reason)
    return msgspec.structs.replace(transition, reason=reason)
