"""Writes reports: `report.html` and `report.json` of a run that has ended, and pages for the `report` command.

Called by `run/workflow.py` after the summary is written. A report that cannot be made changes nothing of how the run ended.
"""

import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.report.page.document import GENERATOR, PageFiles, run_page
from sflow_ctl.report.run_report.model import RunReport
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.durable import write_for_now
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.reporting.gathering import report_at_end
from sflow_ctl.runtime.run.ending import RunEnd
from sflow_ctl.version import VERSION

if TYPE_CHECKING:
    from sflow_ctl.report.run_report.comparing import RunComparison

_HOME = Path(__file__).resolve().parents[2] / "report" / "page" / "bundled"
MOST_AT_END = 10_000
"""Tasks of a run whose report is written at its end: that of 100,000 would take 7 s and 300 MB there."""
_HEAD_BYTES = 1000
_LIBRARY_VERSION = lazy_pattern(r"uPlot \(v([\w.-]+)\)")


@cache
def page_files() -> PageFiles:
    """Return the style, the script and the chart library that a page has inside. Raises: OSError."""
    library = _text("uplot.js")
    version = _LIBRARY_VERSION.search(library[:200])
    return PageFiles(
        style=_text("page.css"),
        script=_text("page.js"),
        library_style=_text("uplot.css"),
        library=library,
        version=VERSION,
        library_version=version[1] if version is not None else "",
    )


def _text(name: str) -> str:
    return (_HOME / name).read_text(encoding="utf-8")


def page_of(report: RunReport) -> bytes:
    """Return the page about a run. Raises: OSError."""
    return run_page(report, page_files()).encode(errors="replace")


def comparison_page_of(whole: "RunComparison") -> bytes:
    """Return the page about two runs. Raises: OSError."""
    from sflow_ctl.report.page.comparison import comparison_page  # the end of a run does not need it

    return comparison_page(whole, page_files()).encode(errors="replace")


def write_report(target: Path, content: bytes) -> None:
    """Write a report to any file: a new one, readable by its owner only, takes the place of an old one. Raises: OSError."""
    if target.exists() and not target.is_file():  # a device, a pipe
        target.write_bytes(content)
    else:
        write_for_now(target, content)


def json_of(report: msgspec.Struct) -> bytes:
    """Return a report as JSON, in one line."""
    return msgspec.json.encode(report) + b"\n"


def write_at_end(end: RunEnd, facts: RunFacts, log: RunLog) -> None:
    """Write the report of a run whose summary is written; why that is not possible is in the run's log."""
    if len(end.state.tasks) > MOST_AT_END:
        command = f"sflow-ctl report {shlex.quote(facts.run_id)}"
        log.info(
            f"no {layout.REPORT} of {len(end.state.tasks)} tasks at the end of the run: {command} makes it"
        )
        return
    try:
        report = report_at_end(end.directory, facts, end.state, end.summary, end.outputs, facts.run_id)
        write_for_now(end.directory / layout.REPORT_JSON, json_of(report))
        page = end.directory / layout.REPORT
        if _is_of_a_task(page):
            log.warning(f"{page} is a file of a task, and stays; sflow-ctl report makes the report elsewhere")
        else:
            write_for_now(page, page_of(report))
    except Exception as error:  # noqa: BLE001 - the run has its outcome, whatever is wrong with its report
        log.warning(f"{layout.REPORT} could not be made: {type(error).__name__}: {error}")


def _is_of_a_task(page: Path) -> bool:
    """Return True for a file or directory that is not a report of ours. Raises: OSError."""
    if not page.is_file():
        return page.exists()
    with page.open("rb") as file:
        return GENERATOR.encode() not in file.read(_HEAD_BYTES)
