"""`sflow_summary.log`: how a run is going or has ended, as text, under the name and with the sections that sflow gives it.

`summary.json` has the facts for programs. Pure; `runtime/record/summary_writer.py` writes the file.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from protocol.text.ansi import printable_line
from sflow_ctl.core.states import FirstCause, Outcome
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import UploadSummary
from sflow_ctl.report.timeline import Timeline, TimelineEvent
from sflow_ctl.report.words import exit_text

_STATUS = {
    Outcome.COMPLETED: "COMPLETED",
    Outcome.INTERRUPTED: "CANCELLED",
    Outcome.TERMINATED: "CANCELLED",
}
"""That of all others is FAILED."""
MAX_HINTS, MAX_NAMES, MAX_UPLOADS = 100, 50, 200


class SummaryLog(Struct, kw_only=True):
    """Everything that the file says."""

    workflow: str
    directory: str
    """Absolute."""
    path: str
    """Of the file itself, absolute."""
    command: Sequence[str]
    tasks: int
    began_ns: int
    now_ns: int
    state: RunView
    timeline: Timeline
    journal: str
    """The file that has all events."""
    outcome: Outcome | None = None
    """None while the run is not over."""
    cause: FirstCause | None = None
    uploads: Mapping[str, UploadSummary] = {}
    """By task; `upload_all` is the run directory's."""
    is_resumed: bool = False

    def text(self) -> str:
        """Return the whole file."""
        has_failed = bool(self.timeline.failed or self.timeline.cancelled)
        hints = _section("Failure Hints", list(self._hints()))
        timeline = _section("Timeline", list(self._timeline()))
        uploads = _section("Uploads", list(self._uploads()))
        parts = [list(self._head()), *([hints] if has_failed else []), timeline, uploads]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def _head(self) -> Iterator[str]:
        title = "Sflow Summary"
        yield title
        yield "=" * len(title)
        status = "RUNNING" if self.outcome is None else _STATUS.get(self.outcome, "FAILED")
        ended = "-" if self.outcome is None else _stamp(self.now_ns)
        counts = self.timeline.counts()
        names = [*self.timeline.failed, *self.timeline.cancelled]
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        lines = [
            ("Workflow", self.workflow),
            ("Status", status),
            ("Started", _stamp(self.began_ns)),
            ("Ended", ended),
            ("Duration", f"{(self.now_ns - self.began_ns) / 1e9:.3f}s"),
            ("Output", self.directory),
            ("Tasks", str(self.tasks)),
            ("Summary", self.path),
            ("Command", shlex.join(self.command)),
        ]
        if self.is_resumed:
            lines.append(("Resumed", "the timeline has earlier attempts, too"))
        if self.cause is not None:
            lines.append(("Workflow Detail", self.cause.text))
        lines.append(("Counts", ", ".join(f"{word}={count}" for word, count in counts.items())))
        lines.append(("FAILED/CANCELLED Tasks", f"{', '.join(names[:MAX_NAMES])}{more}" or "-"))
        lines.append(("Uploads", self._upload_counts() or "-"))
        for name, value in lines:
            yield f"{name:<8} : {printable_line(value)}"

    # ------------------------------------------------------------------ sections

    def _hints(self) -> Iterator[str]:
        first = self.cause.task if self.cause is not None else None
        failed = sorted(self.timeline.failed, key=lambda name: name != first)  # the cause first
        names = [*failed, *self.timeline.cancelled]
        for name in names[:MAX_HINTS]:
            record = self.state.tasks.get(name)
            if record is None:
                continue
            status = exit_text(record.exit_code, record.signal)
            parts = [name, f"exit={status}"] if status != "-" else [name]
            reason = record.reason
            why = "" if reason is None else f"{reason.word}: {reason.text}" if reason.text else reason.word
            parts += [
                f"attempts={record.attempts}",
                f"reason={why}",
                f"log={self.directory}/{log_path(name)}",
            ]
            yield printable_line("  ".join(parts))
            if reason is not None and reason.line and reason.line not in why:
                yield printable_line(f"    line: {reason.line}")
            if reason is not None and reason.hint:
                yield printable_line(f"    hint: {reason.hint}")
        if len(names) > MAX_HINTS:
            yield f"... {len(names) - MAX_HINTS} more"

    def _timeline(self) -> Iterator[str]:
        width = max((len(event.task) for event in (*self.timeline.first, *self.timeline.last)), default=4)
        width = min(max(width, 20), 48)
        yield f"{'Time':<8}  {'Elapsed':<10}  {'Task':<{width}}  {'Event':<11}  Summary"
        yield f"{'-' * 8}  {'-' * 10}  {'-' * width}  {'-' * 11}  {'-' * 7}"
        for event in self.timeline.first:
            yield self._event(event, width)
        if self.timeline.left_out:
            yield f"... {self.timeline.left_out} events are left out here; {self.journal} has all"
        for event in self.timeline.last:
            yield self._event(event, width)

    def _event(self, event: TimelineEvent, width: int) -> str:
        at = datetime.fromtimestamp(event.at_ns / 1e9)
        elapsed = f"{(event.at_ns - self.began_ns) / 1e9:+.3f}s"
        line = f"{at:%H:%M:%S}  {elapsed:<10}  {event.task:<{width}}  {event.word:<11}  {event.text}"
        return printable_line(line.rstrip())

    def _uploads(self) -> Iterator[str]:
        if not self.uploads:
            return
        yield f"Counts : {self._upload_counts()}"
        rows = [row for name, one in self.uploads.items() for row in _upload_rows(name, one)]
        yield from map(printable_line, rows[:MAX_UPLOADS])
        if len(rows) > MAX_UPLOADS:
            yield f"... {len(rows) - MAX_UPLOADS} more, in summary.json"

    def _upload_counts(self) -> str:
        done = sum(one.count for one in self.uploads.values())
        not_done = sum(len(one.problems) for one in self.uploads.values())
        return f"ok={done}, failed={not_done}" if self.uploads else ""


def _upload_rows(name: str, uploads: UploadSummary) -> Iterator[str]:
    for file in uploads.files:
        yield f"[OK] {name}: {file.path} -> {file.address}"
    for problem in uploads.problems:
        yield f"[FAILED] {name}: {problem}"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, "-" * len(title), *lines] if lines else []


def _stamp(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 1_000_000_000).astimezone().isoformat()
