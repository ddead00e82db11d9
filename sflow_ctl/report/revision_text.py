"""What another plan would change in a live run, as lines for people. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from protocol.text.counted import counted
from protocol.text.listing import listed
from sflow_ctl.plan.revisions.comparing import Kind, PlanChange

_MARKS: dict[Kind, str] = {"changed": "~", "dependent": "~", "new": "+", "removed": "-", "updated": "*"}
SHOWN = 8


def change_lines(
    changes: Mapping[str, PlanChange], of_run: Sequence[str], staying: Sequence[str]
) -> Iterator[str]:
    """Yield a line for each task that a plan changes, and those about the rest."""
    shown = [change for change in changes.values() if change.kind != "unchanged"]
    width = max((len(change.task) for change in shown), default=0)
    for change in shown:
        yield f"  {_MARKS[change.kind]} {change.task:<{width}}  {_text(change)}"
    if of_run:
        yield f"  * the run: {', '.join(of_run)} changed"
    if staying:
        yield f"  ! {', '.join(staying)} changed in the file, and stay as they are until the run is resumed"
    same = [change.task for change in changes.values() if change.kind == "unchanged"]
    if same:
        verb = "continues" if len(same) == 1 else "continue"
        yield f"  = {counted(len(same), 'task')} {verb} as before: {listed(same, SHOWN)}"


def _text(change: PlanChange) -> str:
    match change.kind:
        case "changed":
            return f"starts again: {'; '.join(change.why)}"
        case "dependent":
            return f"starts again: it needs {change.needs}"
        case "updated":
            return f"continues with other rules: {'; '.join(change.why)}"
        case "removed":
            return "is stopped, and is not a part of the run any more"
        case _:
            return "is new"
