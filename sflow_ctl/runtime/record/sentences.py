"""Sentences about a run for `sflow.log`, and changes of state as viewers and records may have them.

Called by the controller.
"""

import msgspec

from sflow_ctl.core.scheduler import IgnoredMessages
from sflow_ctl.core.states import TERMINAL, Reason, TaskState, Transition
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.record.run_log import RunLog


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
    """Return a change of state as viewers, the summary and the record may have it: texts of programs may quote anything."""
    if not SECRETS.mask or transition.reason is None:
        return transition
    reason = msgspec.convert(SECRETS.mask.data(msgspec.to_builtins(transition.reason)), Reason)
    return msgspec.structs.replace(transition, reason=reason)


def log_ignored(log: RunLog, ignored: IgnoredMessages, foreign: int) -> None:
    """Log how many messages of agents did not count; `foreign` more were about ranks of other nodes."""
    count = ignored.foreign + foreign
    if count:
        log.warning(f"ignored {count} messages of agents about processes that are not on their nodes")
    if ignored.stale:
        log.info(f"ignored {ignored.stale} messages about attempts that were over")
