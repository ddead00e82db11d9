"""Makes the reports of monitors once a run has ended and its summary is written. Called by `run/workflow.py`."""

import time
from collections.abc import Callable
from pathlib import Path

from sflow_ctl.runtime.monitor.recorder import MonitorRecorder
from sflow_ctl.runtime.monitor.reports import MonitorReports
from sflow_ctl.runtime.record.run_log import RunLog

MARGIN_S = 10.0
"""What a controller needs to leave before Slurm ends its job."""


def report_monitors(
    recorder: MonitorRecorder,
    directory: Path,
    log: RunLog,
    is_hurried: Callable[[], bool],
    gone_at: float | None,
) -> None:
    """Write the rest of the readings and all reports; what is missing is in the log and in the overview.

    `gone_at` is when the Slurm job ends, in monotonic seconds: reports that are not made before that are left out. A
    monitor never fails a run, so its own errors end here.
    """

    def must_end() -> bool:
        return is_hurried() or (gone_at is not None and time.monotonic() > gone_at - MARGIN_S)

    try:
        recorder.close()
        reports = MonitorReports(directory, recorder.whole_plan, recorder, must_end)
        reports.write()
    except Exception as error:  # noqa: BLE001 - the run has its outcome, whatever is wrong with its readings
        log.warning(f"the reports of monitors could not be made: {type(error).__name__}: {error}")
        return
    for problem in reports.problems:
        log.warning(f"monitors: {problem}")
