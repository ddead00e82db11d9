"""Sends what a run tells of its course, each in a thread of its own: a run waits for none of them until its end.

Which events there are is decided by `report/notices.py`. Made by `assembly/parts.py` for the runs that have a `notify`.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from protocol.machine.loop_signals import QuietThread, signals_for_children
from protocol.text.ansi import printable_line
from protocol.text.signal_names import signal_name
from sflow_ctl.core.states import Transition
from sflow_ctl.plan.parts.notices import OF_TASKS, PlannedNotice
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.notices import Course, RunNotice, is_wanted
from sflow_ctl.report.summary import Summary
from sflow_ctl.runtime.record import layout

LOOK_S = 0.05
"""How soon a signal ends the waiting at the end of a run."""
MARGIN_S = 2.0
"""Beyond the time of a notice: a command that took too long is killed by then, and says so itself."""
MAX_OF_TASKS = 100
"""Notices about tasks in one run: each is a process or a request."""
MAX_SAID = 300
"""Characters of what a failed command has printed."""


class Notifier:
    """The notices of one run. `warn` is called from any thread with a sentence about one that was not sent."""

    def __init__(
        self, notices: Sequence[PlannedNotice], course: Course, warn: Callable[[str], object]
    ) -> None:
        self._notices = notices
        self._course = course
        self.warn = warn
        self._of_tasks = 0
        self._threads: list[tuple[QuietThread, PlannedNotice, float]] = []

    def note(self, transition: Transition) -> None:
        """Take in a change of state; send what follows from it."""
        for message in self._course.note(transition):
            self._send(message)

    def stalled(self, task: str, what: str) -> None:
        """Send that a task makes no progress any more; `what` is the sentence."""
        self._send(self._course.stalled(task, what))

    def finish(self, ended: Summary, is_hurried: Callable[[], bool]) -> None:
        """Send the end of the run, and wait for all that is not sent, for as long as each may take."""
        self._send(self._course.end(ended))
        for thread, notice, until in self._threads:
            while thread.is_alive() and time.monotonic() < until and not is_hurried():
                thread.join(LOOK_S)
            if thread.is_alive():
                self.warn(f"{_name(notice)} was not told: no answer within {notice.timeout_s:g} s")

    def _send(self, message: RunNotice) -> None:
        for notice in self._notices:
            if is_wanted(notice, message) and not self._is_too_much(message):
                thread = QuietThread(self._tell, "notice", (notice, message))
                until = time.monotonic() + notice.timeout_s + MARGIN_S
                self._threads.append((thread, notice, until))
                thread.start()

    def _is_too_much(self, message: RunNotice) -> bool:
        """Count notices about tasks; say once that no more are sent."""
        if message.event not in OF_TASKS:
            return False
        self._of_tasks += 1
        if self._of_tasks == MAX_OF_TASKS + 1:
            self.warn(f"{MAX_OF_TASKS} notices about tasks were sent; no more are")
        return self._of_tasks > MAX_OF_TASKS

    def _tell(self, notice: PlannedNotice, message: RunNotice) -> None:
        body = msgspec.json.encode(SECRETS.mask.data(msgspec.to_builtins(message)))
        try:
            problem = _run(notice, message, body) if notice.command else _post(notice, body)
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            text = SECRETS.mask.text(
                printable_line(f"{_name(notice)} was not told of {message.event}: {problem}")
            )
            self.warn(text)


def _name(notice: PlannedNotice) -> str:
    """Return what to call it: the path of a webhook is a secret, as a rule."""
    if notice.command:
        return f"notify command {printable_line(SECRETS.mask.text(notice.command[-1]))[:60]!r}"
    from urllib.parse import urlsplit

    return f"notify webhook of {urlsplit(notice.webhook).hostname}"


def _run(notice: PlannedNotice, message: RunNotice, body: bytes) -> str:
    """Run a command to its end; return what was wrong, empty if nothing was. Raises: OSError."""
    facts = {
        "SFLOW_NOTICE": message.event,
        "SFLOW_NOTICE_TEXT": SECRETS.mask.text(message.text),
        "SFLOW_NOTICE_TASK": message.task or "",
        "SFLOW_RUN_ID": message.run_id,
        "SFLOW_WORKFLOW_NAME": message.workflow,
        "SFLOW_WORKFLOW_OUTPUT_DIR": message.directory,
        "SFLOW_RUN_OUTCOME": message.outcome or "",
        "SFLOW_RUN_EXIT_STATUS": "" if message.exit_status is None else str(message.exit_status),
        "SFLOW_RUN_COUNTS": msgspec.json.encode(message.counts).decode(),
        "SFLOW_SUMMARY_FILE": f"{message.directory}/{layout.SUMMARY}",
    }
    with signals_for_children():
        process = subprocess.Popen(
            notice.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **facts},
            start_new_session=True,  # a Ctrl-C is for the run
        )
    try:
        said, _ = process.communicate(body, timeout=notice.timeout_s)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"it was killed after {notice.timeout_s:g} s"
    if process.returncode == 0:
        return ""
    last = said.decode(errors="replace").strip().rpartition("\n")[2][:MAX_SAID]
    how = f"exit status {process.returncode}" if process.returncode > 0 else signal_name(-process.returncode)
    return f"{how}: {last}" if last else how


def _post(notice: PlannedNotice, body: bytes) -> str:
    """Post to a webhook; return what was wrong, empty if nothing was. Raises: OSError."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from sflow_ctl.version import VERSION

    headers = {"Content-Type": "application/json", "User-Agent": f"sflow-ctl/{VERSION}"}
    try:
        with urlopen(Request(notice.webhook, body, headers), timeout=notice.timeout_s) as answer:
            answer.read(1)
    except HTTPError as error:
        return f"HTTP {error.code} {error.reason}"
    except URLError as error:
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except TimeoutError:
        return f"no answer within {notice.timeout_s:g} s"
    except (HTTPException, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
