"""Submits a job once, watches it to its end, cancels it when the task is stopped.

A job is noted before it is submitted and once more with its id. A watcher that finds such a note adopts the job instead of
submitting another, unless what is to be run has changed.
"""

import secrets
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from protocol.plugins import WorkState
from sflow_agent.job_notes.record import JobRecord, said_at_end
from sflow_agent.jobs.driver import Driver, JobError

STOPPED = 143
"""The exit status of a watcher that was stopped: 128 + SIGTERM."""
CANCEL_WITHIN_S = 20.0
CANCEL_LOOK_S = 1.0
LOOK_AT_LOG_S = 1.0


class Records(Protocol):
    """Where jobs are noted."""

    def read(self) -> JobRecord | None:
        """Return the newest note. Raises: OSError, ValueError."""
        ...

    def write(self, record: JobRecord) -> None:
        """Replace it. Raises: OSError."""
        ...


class Surroundings(Protocol):
    """The watcher's process, as far as it matters here."""

    is_stopped: bool
    """The watcher is to end."""

    @property
    def is_abandoned(self) -> bool:
        """Return whether its agent was killed: another one, or a resumed run, watches the job again, so that it is left alone."""
        ...

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until the task is stopped."""
        ...

    def say(self, text: str) -> None:
        """Print a line of the watcher's own."""
        ...

    def show(self, output: bytes) -> None:
        """Print what the job has printed."""
        ...


class JobWatch:
    """The life of one attempt."""

    def __init__(
        self,
        driver: Driver,
        records: Records,
        around: Surroundings,
        digest: str,
        lost_after_s: float,
        new_key: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._driver, self._records, self._around = driver, records, around
        self._digest, self._lost_after_s, self._new_key = digest, lost_after_s, new_key

    def run(self) -> int:
        """Return the exit status of the task. Raises: JobError, OSError, ValueError."""
        record = self._begun()
        if record is None:
            return STOPPED
        state = self._watched(record)
        if state is None:
            if self._around.is_abandoned:
                self._around.say(f"job {record.id} is left to the next attempt: the agent was killed")
            else:
                self._cancel(record)
            return STOPPED
        self._around.show(self._driver.follow())
        code = state.exit_code
        ended = replace(record, state="ended", exit_code=code, reason=state.reason, text=state.text)
        self._records.write(ended)
        if state.text:
            self._around.say(said_at_end(ended))
        if code is None:
            return 1
        return code if 0 <= code < 256 else 1

    # ------------------------------------------------------------------ the beginning

    def _begun(self) -> JobRecord | None:
        """Return the record of a job that is submitted: an earlier one's, or a new one; None if the task is stopped first."""
        record = self._records.read()
        if record is not None and record.is_open:
            record = self._taken_over(record)
            if record is not None and record.id:
                return record
        else:
            record = None
        if self._around.is_stopped:
            return None
        if record is None:
            record = JobRecord(key=self._new_key(), digest=self._digest, state="submitting")
            self._records.write(record)
        try:
            id = self._driver.submit(record.key)
        except JobError as error:
            found = self._found_or_none(record.key)
            if found is None:
                self._records.write(replace(record, state="ended"))
                raise
            self._around.say(f"{error}; the job is there nevertheless")
            id = found
        record = replace(record, id=id, state="submitted")
        self._records.write(record)
        self._around.say(f"submitted as job {id}")
        return record

    def _taken_over(self, record: JobRecord) -> JobRecord | None:
        """Return the record of an earlier watcher's job that is continued; without an id if it is to be submitted again."""
        self._driver.use(record.key)
        id = record.id or self._driver.find(record.key)
        if record.digest != self._digest:
            if id:
                self._around.say(
                    f"job {id} of an earlier attempt runs something else by now, and is cancelled"
                )
                self._cancel(replace(record, id=id))
            return None
        if not id:
            self._around.say("an earlier attempt was killed while it submitted its job, which is not there")
            return record
        self._around.say(f"continues with job {id}, which an earlier attempt has submitted")
        taken = replace(record, id=id, state="submitted")
        self._records.write(taken)
        return taken

    def _found_or_none(self, key: str) -> str | None:
        try:
            return self._driver.find(key)
        except JobError:
            return None

    # ------------------------------------------------------------------ the watch

    def _watched(self, record: JobRecord) -> WorkState | None:
        """Return the end of a job; None if the task is stopped before. Raises: JobError."""
        around = self._around
        shown = ""
        known_at = next_look = around.now()
        while True:
            around.show(self._driver.follow())
            if around.is_stopped:
                return None
            if (now := around.now()) >= next_look:
                next_look = now + self._driver.every_s
                try:
                    state = self._driver.poll(record.id)
                except JobError as error:
                    if now - known_at >= self._lost_after_s:
                        raise JobError(
                            f"nothing is known of job {record.id} for {now - known_at:.0f} s: {error}"
                        ) from error
                    shown = self._say_once(shown, f"{error}; it is asked again")
                else:
                    known_at = now
                    if state.state == "ended":
                        return state
                    shown = self._say_once(shown, f"job {record.id} is {state.text or state.state}")
            around.wait(max(0.0, min(LOOK_AT_LOG_S, next_look - around.now())))

    def _say_once(self, before: str, text: str) -> str:
        if text != before:
            self._around.say(text)
        return text

    def _cancel(self, record: JobRecord) -> None:
        """Cancel a job and wait for its end for a while. What cannot be cancelled stays noted as open."""
        around = self._around
        try:
            self._driver.cancel(record.id)
        except JobError as error:
            around.say(f"job {record.id} cannot be cancelled: {error}")
            return
        deadline = around.now() + CANCEL_WITHIN_S
        while around.now() < deadline:
            try:
                if self._driver.poll(record.id).state == "ended":
                    break
            except JobError:
                pass  # asked again
            around.wait(CANCEL_LOOK_S)
        around.show(self._driver.follow())
        self._records.write(replace(record, state="ended"))
        around.say(f"job {record.id} is cancelled")
