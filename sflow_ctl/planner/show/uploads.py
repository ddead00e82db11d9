"""The lines of a plan about what is uploaded where. Called by `text`."""

from protocol.messages.uploads import FileUpload
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.tasks.uploads import shown_address

MAX_SHOWN = 40


def upload_lines(plan: Plan) -> list[str]:
    """Return a heading and a line for each upload; nothing if there is none."""
    targets = {target.name: target for target in plan.storage}
    lines = [
        f"  - {task.name}: {one.pattern} to {shown_address(targets[one.target], one)}{_must('task', one)}"
        for task in plan.tasks
        for one in task.uploads
    ]
    if len(lines) > MAX_SHOWN:
        lines[MAX_SHOWN:] = [f"  ... and {len(lines) - MAX_SHOWN} more"]
    whole = plan.upload_all
    if whole is not None:
        where = shown_address(targets[whole.target], whole)
        lines.append(f"  - the run directory: as one archive to {where}{_must('run', whole)}")
    return ["", "Uploads:", *lines] if lines else []


def _must(subject: str, upload: FileUpload) -> str:
    return f"; the {subject} fails if that fails" if upload.on_error == "fail" else ""
