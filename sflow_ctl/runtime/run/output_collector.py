"""Reads the outputs of completed tasks in a thread: `<task>/outputs.json`, and values for later tasks; has others rendered.

A log may be large and a pattern slow, and the scheduler's thread must not wait for either. The scheduler
orders it with `CollectOutputs` and lets the exit count when the values are here, so no task starts before
they are known.
"""

import contextlib
import errno
import os
import queue
import select
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, AnyStr, NamedTuple

import msgspec

from protocol.machine.loop_signals import QuietThread
from protocol.messages.handover import FoundOutput
from protocol.text.counted import counted
from protocol.text.line_pattern import Groups, use_slow_engine
from protocol.text.process_labels import LabelRemover, Labels
from sflow_ctl.core.commands import CollectOutputs, RenderTexts
from sflow_ctl.core.events import TextsRendered
from sflow_ctl.plan.log_paths import earlier_log_path, log_path
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.results import STDOUT
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import write_durably

if TYPE_CHECKING:
    from sflow_ctl.core.model.run import Run
    from sflow_ctl.results.outputs import OutputValues
    from sflow_ctl.runtime.files.task_results import ResultFiles
    from sflow_ctl.runtime.renderer import Renderer

SHOWN_PROBLEMS = 3
MAX_LINE = 16 << 20
"""Characters of a line that are held in memory: a program may never end its line."""
SHORTAGE_WITHIN_S, SHORTAGE_PAUSE_S = 10.0, 0.2


class WantedOutputs(NamedTuple):
    """An attempt whose outputs are read."""

    task: PlannedTask
    attempt: int
    found: Sequence[FoundOutput] = ()
    """What its agent has found."""


class TaskOutputs(NamedTuple):
    """The values of a task's outputs."""

    task: str
    attempt: int
    values: dict[str, Any]
    problems: list[str]


def shown_problems(problems: list[str]) -> list[str]:
    """Return what the console shows of the problems of one task's outputs."""
    left = len(problems) - SHOWN_PROBLEMS
    more = [f"{counted(left, 'more problem')}, in {layout.RUN_LOG}"] if left > 0 else []
    return [*problems[:SHOWN_PROBLEMS], *more]


class OutputCollector:
    """`collect` a task's outputs; once `fileno` is readable they are among `collected`."""

    def __init__(self, run_directory: Path) -> None:
        use_slow_engine(_search_in_a_process)
        self._run_directory = run_directory
        self.fileno = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.values: dict[str, dict[str, Any]] = {}
        """All collected values, by task."""
        self.problems: dict[str, list[str]] = {}
        """Why values are missing, by task."""
        self._wanted: queue.SimpleQueue[WantedOutputs | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[TaskOutputs] = queue.SimpleQueue()
        self._thread: QuietThread | None = None
        self._renderer: Renderer | None = None
        self._results: ResultFiles | None = None
        self.writes_results = True
        """Whether `results.json` is kept up to date."""

    def keep_results(self, tasks: Sequence[str]) -> None:
        """Take over the results of tasks that an earlier controller has completed."""
        from sflow_ctl.runtime.files.task_results import ResultFiles  # few runs have results

        self._results = ResultFiles(self._run_directory, tasks)

    def write_results(self, before: Iterable[PlannedTask] | None = None) -> str:
        """Bring `results.json` up to date; return why that failed, or nothing.

        `before` are tasks that start now: nothing is done for those that come after no other task.
        """
        if self._results is None:
            return ""
        is_read = before is None or any(task.depends_on or task.finally_when is not None for task in before)
        return self._results.write() if is_read else ""

    def work_on(self, order: CollectOutputs | RenderTexts, run: "Run") -> None:
        """Begin what the scheduler of `run` has ordered."""
        if isinstance(order, CollectOutputs):
            found = tuple(run.found.get(order.task, {}).values())
            self.collect(run.task_named(order.task).plan, order.attempt, found)
            return
        if self._renderer is None:
            from sflow_ctl.runtime.renderer import Renderer  # few tasks have deferred values

            self._renderer = Renderer(run, self._wake)
        self._renderer.begin(order)

    def rendered(self) -> list[TextsRendered]:
        """Return the deferred values that were evaluated since the last call."""
        return [] if self._renderer is None else self._renderer.take()

    def collect(self, task: PlannedTask, attempt: int, found: Sequence[FoundOutput] = ()) -> None:
        """Begin to read the outputs of an attempt that exited with success; `found` are those that its agent has found."""
        if self._thread is None:
            self._thread = QuietThread(self._work, "outputs")
            self._thread.start()
        self._wanted.put(WantedOutputs(task, attempt, found))

    def collected(self) -> Iterator[TaskOutputs]:
        """Return the values read since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fileno)
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._done.get_nowait()

    def close(self) -> None:
        """End the thread, without waiting for a read in progress."""
        self._wanted.put(None)
        os.close(self.fileno)

    def _work(self) -> None:
        while (wanted := self._next()) is not None:
            task, attempt, _ = wanted
            try:
                values, problems = self._read(wanted)
            except Exception as error:  # noqa: BLE001 - a value that cannot be read never holds a task up
                values, problems = {}, [f"could not be read: {type(error).__name__}: {error}"]
            self.values[task.name] = values
            self.problems.pop(task.name, None)
            if problems:
                self.problems[task.name] = problems
            self._done.put(TaskOutputs(task.name, attempt, values, problems))
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # closed: the run has ended
            os.eventfd_write(self.fileno, 1)

    def _next(self) -> WantedOutputs | None:
        """Return the next task to read, None at the end; write `results.json` when that is due."""
        while True:
            due = None if self._results is None or not self.writes_results else self._results.next_write()
            wait_s = None if due is None else max(0.0, due - time.monotonic())
            with contextlib.suppress(queue.Empty):
                return self._wanted.get(timeout=wait_s)
            self.write_results()

    def _read(self, wanted: WantedOutputs) -> tuple[dict[str, Any], list[str]]:
        from sflow_ctl.results.outputs import collect  # the parse library, only for tasks that need it
        from sflow_ctl.results.recorded import outputs_document, values_of_found

        task, attempt, handed = wanted
        log = self._run_directory / log_path(task.name)

        def lines(source: str) -> Iterator[str]:
            is_log = source == STDOUT
            return _lines(
                log if is_log else log.parent / source, source, task.log_labels if is_log else "none"
            )

        found = collect(task.outputs, lines)
        found.problems += _stale(task, attempt, log.parent)
        specs = [
            {
                key: value
                for key, value in msgspec.to_builtins(output).items()
                if value is not None and key != "metrics"
            }
            for output in task.outputs
        ]
        if task.result is not None:
            self._add_result(task, found, lambda: lines(STDOUT))
        document = outputs_document(task.name, found.values, found.metrics, specs, handed, attempt)
        text = msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2)
        try:
            write_durably(log.parent / "outputs.json", SECRETS.mask.raw(text) + b"\n")
        except OSError as error:  # the values are known all the same
            found.problems.append(f"outputs.json cannot be written: {error}")
        return {**found.visible, **values_of_found(handed)}, found.problems

    def _add_result(
        self, task: PlannedTask, found: "OutputValues", read_log: Callable[[], Iterable[str]]
    ) -> None:
        """Make the task's `result.json`; its values join the outputs, which count where both have a name."""
        from sflow_ctl.runtime.files.task_results import ResultFiles  # few tasks have a result

        assert task.result is not None
        if self._results is None:
            self._results = ResultFiles(self._run_directory)
        result = self._results.make(task, task.result, read_log)
        found.values = {**result.values, **found.values}
        found.problems += result.errors


def collect_outputs(directory: Path, tasks: Sequence[tuple[PlannedTask, int]]) -> None:
    """Write `outputs.json` of tasks that exited with success in these attempts, before a run continues with them."""
    wanted = [(task, attempt) for task, attempt in tasks if task.has_values]
    if not wanted:
        return
    collector = OutputCollector(directory)
    collector.writes_results = False  # it does not know those of the other tasks
    for task, attempt in wanted:
        with contextlib.suppress(OSError):  # of an earlier attempt
            (directory / task.name / "outputs.json").unlink(missing_ok=True)
        collector.collect(task, attempt)
    left = len(wanted)
    while left:
        select.select([collector.fileno], [], [])
        left -= len(list(collector.collected()))
    collector.close()


def _open_patiently(path: Path) -> int:
    """Open a file; while descriptors are short, wait until the run closes its ports for some. Raises: OSError."""
    deadline = time.monotonic() + SHORTAGE_WITHIN_S
    while True:
        try:
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or time.monotonic() > deadline:
                raise
        time.sleep(SHORTAGE_PAUSE_S)


def _stale(task: PlannedTask, attempt: int, directory: Path) -> Iterator[str]:
    """Yield a sentence for each file that this attempt has not written: its values are an earlier attempt's.

    The log of the attempt before was renamed when this one began: both times are the file system's own.
    """
    began = _changed_at(directory.parent / earlier_log_path(task.name, attempt - 1)) if attempt > 1 else None
    if began is None:
        return
    for source in sorted({output.source for output in task.outputs} - {STDOUT}):
        written = _changed_at(directory / source)
        if written is not None and written < began:
            yield f"{source}: attempt {attempt} did not write it, so its values are an earlier attempt's"


def _changed_at(path: Path) -> int | None:
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return None


def _pieces(readline: Callable[[int], AnyStr], end: AnyStr, *, drops_rest: bool) -> Iterator[AnyStr]:
    """Yield lines; of one that is longer than `MAX_LINE` the beginning, or all of it in pieces."""
    while line := readline(MAX_LINE):
        yield line
        while drops_rest and len(line) == MAX_LINE and not line.endswith(end):
            line = readline(MAX_LINE)


def _lines(path: Path, source: str, labels: Labels) -> Iterator[str]:
    """Yield the lines of a regular file; a FIFO or device would block, or never end. Raises: OSError."""
    descriptor = _open_patiently(path)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{source} is not a regular file")
    if labels == "none":
        from protocol.text.json_documents import encoding_of  # few runs have outputs

        encoding = encoding_of(os.pread(descriptor, 3, 0))
        with open(descriptor, encoding=encoding, errors="replace") as file:  # noqa: PTH123 - a descriptor has no path
            yield from _pieces(file.readline, "\n", drops_rest=source == STDOUT)
        return
    remover = LabelRemover(labels)
    with open(descriptor, "rb") as log:  # noqa: PTH123
        for raw in _pieces(log.readline, b"\n", drops_rest=True):
            line = remover.line(raw.rstrip(b"\n"))
            if line is not None:
                yield line.decode(errors="replace")
    for line in remover.rest():
        yield line.decode(errors="replace")


def _search_in_a_process(pattern: str, line: str, limit: int) -> list[Groups] | None:
    """Search a line that RE2 cannot search."""
    from protocol.machine.pattern_process import search  # few patterns need it

    return search(pattern, line, limit)
