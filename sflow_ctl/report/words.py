"""Values of a run as short text: exits, GPU lists, durations, node names, outcomes.

Pure formatting without layout. Used by the tables, by the cause block and by the commands of `cli/`.
"""

from collections.abc import Sequence

from protocol.text.signal_names import signal_name
from sflow_ctl.core.states import Outcome
from sflow_ctl.plan.model import Plan

MANY_TASKS = 40
"""More tasks than this are shown briefly: the console shows important changes only, tables show totals."""
_OUTCOME_WORDS = {
    Outcome.COMPLETED: "completed",
    Outcome.FAILED: "failed",
    Outcome.TIMEOUT: "was stopped at its time limit",
    Outcome.INTERRUPTED: "was interrupted",
    Outcome.TERMINATED: "was terminated",
    Outcome.INFRASTRUCTURE: "failed because nodes were lost",
}


def outcome_text(outcome: Outcome) -> str:
    """Return the verb of the sentence "the run ..."."""
    return _OUTCOME_WORDS[outcome]


def exit_text(exit_code: int | None, signal: int | None) -> str:
    """Return `0`, `SIGKILL`, or `-` when no process has exited."""
    if signal is not None:
        return signal_name(signal)
    return "-" if exit_code is None else str(exit_code)


def node_name(plan: Plan, node: int | None) -> str:
    """Return the name of the node with this index, or `-`."""
    return plan.nodes[node].name if node is not None and 0 <= node < len(plan.nodes) else "-"


def gpus_text(gpus: Sequence[int]) -> str:
    """Return `0-3,6` for 0, 1, 2, 3 and 6; `-` for none."""
    parts: list[str] = []
    ordered = sorted(gpus)
    start = 0
    for at in range(1, len(ordered) + 1):
        if at == len(ordered) or ordered[at] != ordered[at - 1] + 1:
            first, last = ordered[start], ordered[at - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = at
    return ",".join(parts) or "-"


def duration_text(seconds: float) -> str:
    """Return `0.42 s`, `59.9 s`, `12:34` or `1:02:03`."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def energy_text(joules: float) -> str:
    """Return `845 J`, `12.4 kJ` or `0.86 kWh`."""
    if joules < 1000:
        return f"{joules:.0f} J"
    return f"{joules / 1000:.1f} kJ" if joules < 1e6 else f"{joules / 3.6e6:.2f} kWh"
