"""Makes the reports of monitors once a run has ended and its summary is written. Called by `run/workflow.py`."""

from collections.abc import Callable
from pathlib import Path

from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.monitor.recorder import MonitorRecorder
from sflow_ctl.runtime.monitor.reports import MonitorReports
from sflow_ctl.runtime.record.run_log import RunLog


def report_monitors(
    recorder: MonitorRecorder, directory: Path, plan: Plan, log: RunLog, is_hurried: Callable[[], bool]
) -> None:
    """Write the rest of the readings and all reports; what is missing is in the log and in the overview.

    A monitor never fails a run, so its own errors end here.
    """
    try:
        recorder.close()
        reports = MonitorReports(directory, plan, recorder, is_hurried)
        reports.write()
    except Exception as error:  # noqa: BLE001 - the run has its outcome, whatever is wrong with its readings
        log.warning(f"the reports of monitors could not be made: {type(error).__name__}: {error}")
        return
    for problem in reports.problems:
        log.warning(f"monitors: {problem}")
