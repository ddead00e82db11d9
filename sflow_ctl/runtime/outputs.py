"""`<task>/outputs.json`: what a completed task's log says, by the patterns of its `outputs`."""

from pathlib import Path

import msgspec

from sflow_ctl.core.tasks import log_path
from sflow_ctl.planner.plan import Plan, PlannedTask
from sflow_ctl.runtime.run_log import RunLog


class OutputWriter:
    """Writes each task's outputs once it has completed. A parse that fails is a warning, never a failure."""

    def __init__(self, plan: Plan, run_directory: Path, log: RunLog) -> None:
        self._tasks: dict[str, PlannedTask] = {task.name: task for task in plan.tasks if task.outputs}
        self._run_directory = run_directory
        self._log = log

    def write(self, name: str) -> None:
        """Reads the task's log and writes `outputs.json` beside it; nothing for a task without `outputs`."""
        task = self._tasks.get(name)
        if task is None:
            return
        from sflow_ctl.core.outputs import parse_outputs  # the parse library, only for who needs it

        path = self._run_directory / log_path(name)
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                values = parse_outputs(tuple(pattern.pattern for pattern in task.outputs), lines)
        except (OSError, ValueError) as error:
            self._log.warning(f"outputs of {name} could not be read: {error}")
            return
        document = {
            "outputs": values,
            "specs": [{"pattern": pattern.pattern, "source": pattern.source} for pattern in task.outputs],
            "task": name,
        }
        text = msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2)
        (path.parent / "outputs.json").write_bytes(text + b"\n")
