"""Judges the workflow's own `success` in the run directory when all tasks have ended."""

from pathlib import Path

from protocol.diagnosis.local_files import local_files
from protocol.diagnosis.success import PrintedLog, missing
from sflow_ctl.core.states import Reason
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import Plan


def what_is_missing(plan: Plan, directory: Path) -> Reason | None:
    """Return the first condition of the run's `success` that does not hold, or None. Logs are those of the last attempts."""
    assert plan.success is not None
    paths = ((directory / log_path(task.name), task.log_labels) for task in plan.tasks)
    logs = [PrintedLog(str(path), labels) for path, labels in paths if path.exists()]
    try:
        cause = missing(plan.success, logs, local_files())
    except Exception as error:  # noqa: BLE001 - whatever the files hold, the run must end in order
        return Reason(
            "success", f"its success conditions could not be checked: {type(error).__name__}: {error}"
        )
    return None if cause is None else Reason(cause.word, cause.text, hint=cause.hint, line=cause.line)
