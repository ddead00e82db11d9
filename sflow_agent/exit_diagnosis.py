"""Diagnoses the exits of ranks from their logs, ports and the kernel's log.

Works in threads of `worker`, as files may be slow. Reads the evidence; `core.exit_cause` weighs it. Imported
at the first exit that needs it.
"""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from protocol.diagnosis.local_files import local_files
from protocol.diagnosis.signatures import Signature, read_signatures
from protocol.diagnosis.success import BLOCK_BYTES, PrintedLog, missing
from protocol.messages.checks import HttpCheck, TcpCheck
from protocol.messages.facts import ExitCause
from protocol.messages.rank_spec import JOB_PROGRAM, RankSpec
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.process_labels import Labels
from sflow_agent.core.events import ExitDiagnosed
from sflow_agent.core.exit_cause import Evidence, cause_of, is_asked_for_tracebacks
from sflow_agent.core.log_reading import LogExcerpt, LogReader, port_in
from sflow_agent.node.memory_events import kernel_killed
from sflow_agent.probes.port_holder import listening_ports, owner_of_port
from sflow_agent.worker import Workers

EXCERPT_BYTES = 256 * 1024
"""The size of the searched parts at a log's end and beginning."""
TAIL_LINES = 20
COUNTED_BYTES = 64 * 1024 * 1024
"""A line further into a log than this gets no number: counting reads everything before it."""
SIGNATURES = "signatures.toml"
_NUMBER = lazy_pattern(r"(?<![\w.])\d{4,5}(?![\w.])")
_SIGKILL_STATUS = 128 + signal.SIGKILL


class EndedRank(Struct, frozen=True):
    """A rank whose exit is to be diagnosed."""

    spec: RankSpec
    log: str
    """The path on this node."""
    pid: int
    started_at: float
    """On the monotonic clock."""
    exit_code: int | None
    signal: int | None
    memory_kills: int
    asked_signal: int | None = None
    """The last signal that an operator has sent to it."""


class ExitDiagnosis:
    """A source of the loop: `begin` the diagnosis of an exit, `poll` returns the finished ones."""

    def __init__(
        self,
        workers: Workers,
        marker: str,
        signatures: tuple[Signature, ...],
        memory_limit: Callable[[], str],
        warn: Callable[[str], None],
    ) -> None:
        """`signatures` are the workflow's own."""
        self._warn = warn
        self._workers = workers
        self._signatures = signatures
        self._marker = marker
        self._memory_limit = memory_limit
        self._done: list[ExitDiagnosed] = []
        self._reader: LogReader | None = None
        self._making_reader = threading.Lock()

    def begin(self, end: EndedRank) -> None:
        """Diagnose an exit in a thread."""

        def done(cause: ExitCause | OSError | None) -> None:
            cause = _could_not(end, cause) if isinstance(cause, OSError) else cause
            self._done.append(ExitDiagnosed(end.spec.rank, cause))
            for problem in () if self._reader is None else self._reader.problems:
                self._warn(problem)  # shown once for each text

        key = ("exit", end.spec.rank)
        self._workers.run(key, lambda: self._diagnose(end), done, self._workers.reading)

    def next_wakeup(self) -> float | None:
        """Return 0 while a diagnosis is finished."""
        return 0.0 if self._done else None

    def poll(self, _now: float, /) -> Sequence[ExitDiagnosed]:
        """Return the diagnoses finished since the last call."""
        done, self._done = self._done, []
        return done

    # ------------------------------------------------------------------ the threads' side

    def _diagnose(self, end: EndedRank) -> ExitCause | None:
        if end.exit_code in end.spec.success_exit_codes:
            success = end.spec.success
            return (
                None
                if success is None
                else missing(success, [PrintedLog(end.log, end.spec.labels)], local_files())
            )
        return self._explain(end)

    def _explain(self, end: EndedRank) -> ExitCause | None:
        pieces = _pieces(end.log, end.spec.labels)
        if end.spec.bootstrap is not None and end.exit_code is not None:
            from sflow_agent.environments import bootstrap_cause  # few tasks have an environment

            failed = bootstrap_cause(end.spec.bootstrap, end.exit_code, pieces)
            if failed is not None:
                return failed
        if end.spec.argv[:1] == (JOB_PROGRAM,):
            from sflow_agent.job_notes.cause import job_cause  # the work of few tasks is done elsewhere

            ended = job_cause(end.spec.env.get("SFLOW_TASK_OUTPUT_DIR", ""), pieces)
            if ended is not None:
                return ended
        asks = is_asked_for_tracebacks(end.exit_code)
        is_step = end.spec.launch_kind == "step"
        found = self._log_reader().explanation(pieces, with_tracebacks=asks, is_step=is_step)
        is_killed = end.signal == signal.SIGKILL or end.exit_code == _SIGKILL_STATUS
        cause = cause_of(
            Evidence(
                exit_code=end.exit_code,
                signal=end.signal,
                found=found,
                found_number=None if found is None else _line_number(end.log, found.offset),
                tail=pieces[0].text().splitlines()[-TAIL_LINES:] if pieces else (),
                oom_kills=end.memory_kills,
                is_oom_victim=is_killed and kernel_killed(end.pid, end.started_at),
                memory_limit=self._memory_limit() if end.memory_kills else "",
                asked_signal=end.asked_signal,
            )
        )
        if cause is not None and cause.word == "port_in_use":
            cause = self._with_owner(cause, pieces, end.spec)
        if cause is not None and found is not None and found.doubt and cause.line == found.line:
            return msgspec.structs.replace(cause, text=f"{cause.text or cause.line}; {found.doubt}")
        return cause

    def _with_owner(self, cause: ExitCause, pieces: list[LogExcerpt], spec: RankSpec) -> ExitCause:
        """Return the cause with the port and its owner. A port that no line names is marked as a guess."""
        # The only number in its command that is now another process's port is as good as a named one.
        port = port_in(cause.line) or _port_nearby(cause.line, pieces) or _named_port(spec)
        if port is not None:
            owner = owner_of_port(port, self._marker)
            text = f"port {port} was in use{f' by {owner}' if owner is not None else '; it is free now'}"
            is_ours = owner is not None and owner.startswith("task ") and " of this run" in owner
            hint = "let one of the two use another port: `ports:` leases free ones" if is_ours else cause.hint
            return msgspec.structs.replace(cause, text=text, hint=hint)
        port = _probed_port(spec)
        if port is None:
            return cause
        owner = owner_of_port(port, self._marker)
        state = "is free now" if owner is None else f"{owner} has"
        text = f"an address was in use; the log does not say which (its probe asks for port {port}, which {state})"
        return msgspec.structs.replace(cause, text=text)

    def _log_reader(self) -> LogReader:
        """Return the reader, made at the first failed exit: reading and compiling takes 20 ms."""
        with self._making_reader:
            if self._reader is None:
                import protocol

                path = Path(protocol.__file__).with_name("diagnosis") / SIGNATURES
                self._reader = LogReader((*self._signatures, *read_signatures(path.read_text())))
            return self._reader


def _could_not(end: EndedRank, error: OSError) -> ExitCause | None:
    """Return the cause of an exit whose diagnosis failed: `success` that cannot be checked does not hold."""
    if end.exit_code not in end.spec.success_exit_codes:
        return None
    what = f"its `success` could not be checked: {error.strerror or error}"
    return ExitCause(word="success", text=what)


# ---------------------------------------------------------------------- logs


def _pieces(path: str, labels: Labels) -> list[LogExcerpt]:
    """Return the end of a log and its beginning, without overlap; the end first: it is nearer to the cause."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        size = os.fstat(descriptor).st_size
        if size <= 2 * EXCERPT_BYTES:
            return [LogExcerpt(0, os.pread(descriptor, size, 0), labels)]
        start = size - EXCERPT_BYTES
        end = os.pread(descriptor, EXCERPT_BYTES, start)
        torn = end.find(b"\n") + 1  # its first line began before the excerpt
        beginning = os.pread(descriptor, EXCERPT_BYTES, 0)
        return [LogExcerpt(start + torn, end[torn:], labels), LogExcerpt(0, beginning, labels)]
    finally:
        os.close(descriptor)


def _line_number(path: str, offset: int) -> int | None:
    if offset > COUNTED_BYTES:
        return None
    lines = 1
    with Path(path).open("rb") as file:
        if os.lseek(file.fileno(), 0, os.SEEK_HOLE) < offset:
            return None  # lines of a spooled log that the controller has
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        while offset > 0 and (data := file.read(min(BLOCK_BYTES, offset))):
            lines += data.count(b"\n")
            offset -= len(data)
    return lines


def _port_nearby(line: str, pieces: list[LogExcerpt]) -> int | None:
    """Return a port that a line next to this one names together with an address."""
    for piece in pieces:
        lines = piece.text().splitlines()
        for index, text in enumerate(lines):
            if text.strip() != line:
                continue
            near = [*lines[index + 1 : index + 4], *reversed(lines[max(0, index - 3) : index])]
            named = (port_in(one) for one in near if "port" in one.lower() or "address" in one.lower())
            return next((port for port in named if port is not None), None)
    return None


def _probed_port(spec: RankSpec) -> int | None:
    """Return the only port that the task's probes check."""
    from protocol.text.urls import split_url

    checks = [check for probe in spec.probes for check in probe.all_checks]
    ports = {check.port for check in checks if isinstance(check, TcpCheck)}
    ports |= {split_url(check.url).port for check in checks if isinstance(check, HttpCheck)}
    return ports.pop() if len(ports) == 1 else None


def _named_port(spec: RankSpec) -> int | None:
    """Return the only number in the rank's command and variables that is a port in use now."""
    texts = (*spec.argv, *(value for value in spec.env.values() if value.isdecimal()))
    numbers = {int(number) for text in texts for number in _NUMBER.findall(text)}
    ports = {number for number in numbers if number > 1023} & listening_ports()
    return ports.pop() if len(ports) == 1 else None
