"""Says what another plan changes: as one sentence for a journal, and as lines for people. Pure."""

from collections.abc import Iterable, Mapping

from protocol.text.listing import listed
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.revisions.comparing import Kind, PlanChange

SHOWN = 8
_WORDS: dict[Kind, str] = {
    "changed": "changed",
    "dependent": "starts again because of them:",
    "new": "new",
    "removed": "removed",
    "updated": "other rules for",
}
_STAYING = ("signatures", "monitors", "windows", "notices", "stop_before_end_s")
"""What a run keeps as it began with it, until it is resumed."""


def revision_text(revision: int, changes: Mapping[str, PlanChange]) -> str:
    """Return "revision 2 applied: changed bench; new eval; removed warmup"."""
    parts = [
        f"{word} {listed(names, SHOWN)}"
        for kind, word in _WORDS.items()
        if (names := [change.task for change in changes.values() if change.kind == kind])
    ]
    return f"revision {revision} applied: {'; '.join(parts) or 'no task changes'}"


def counts(changes: Iterable[PlanChange]) -> dict[Kind, int]:
    """Return the number of tasks of each kind, of those that there are."""
    found: dict[Kind, int] = {}
    for change in changes:
        found[change.kind] = found.get(change.kind, 0) + 1
    return found


def is_same(old: Plan, new: Plan, changes: Mapping[str, PlanChange]) -> bool:
    """Return whether the new plan makes no difference at all."""
    return all(change.kind == "unchanged" for change in changes.values()) and not workflow_changes(old, new)


def workflow_changes(old: Plan, new: Plan) -> list[str]:
    """Return the fields of the plan that change for the run as a whole, at once."""
    changed = [noun for name, noun in _OF_RUN.items() if getattr(old, name) != getattr(new, name)]
    return changed if set(new.secrets) <= set(old.secrets) else [*changed, "secrets"]


def staying(old: Plan, new: Plan) -> list[str]:
    """Return what the file has changed, and the run keeps as it is until it is resumed."""
    changed = [name for name in _STAYING if getattr(old, name) != getattr(new, name)]
    return changed if set(old.secrets) <= set(new.secrets) else [*changed, "secrets"]


_OF_RUN = {
    "timeout_s": "timeout",
    "stop_timeout_s": "stop_timeout",
    "keep_alive": "keep_alive",
    "success": "success",
    "max_running": "max_running",
    "sweeps": "sweep",
    "variables": "variables",
    "artifacts": "artifacts",
    "files": "inline artifacts",
}
