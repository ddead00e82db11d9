"""What must be true after each run of a round, whatever has happened to it. Each check returns sentences about what is wrong."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from protocol.errors import FleetError
from sflow_ctl.core.states import TaskState
from sflow_ctl.report.summary import Summary, read_summary
from sflow_ctl.runtime.journal.entry import Entry
from sflow_ctl.runtime.journal.reader import EVERYTHING, entries_of
from sflow_ctl.runtime.record.plan_file import decode_plan

LINE = re.compile(r"(?:\d+: ?|\[\S+\] ?)?(\S+#\d+\.\d+) (\d{6}) (\.{40})$")
PART = re.compile(r"\S+#\d+\.\d+ \d{0,6}")
INCOMPLETE = re.compile(r" logs are incomplete, their node was lost: (.+)$")
NOT_BEGUN = "before any task was started"
STATUSES = frozenset({0, 1, 3, 124, 130, 143})


class Ended:
    """A run that has ended: its directory, its exit status, and what it printed."""

    def __init__(self, directory: Path, record: Path, status: int, output: str, *, is_excused: bool) -> None:
        self.directory, self.record = directory, record
        self.status, self.output = status, output
        self.is_excused = is_excused
        """Its controller was killed, or it ended without its disk: it owes neither a status nor a summary."""

    def violations(self) -> list[str]:
        """Return everything that is wrong."""
        if not self.directory.exists():  # it ended before it had begun
            return [*self._said_by_tasks(), *self._printed()]
        found = [*self._said_by_tasks(), *self._printed(), *self._written(), *self._logs()]
        return [sentence[:600] for sentence in found]

    def completed(self) -> set[str]:
        """Return the tasks that the journal has as completed."""
        newest: dict[str, TaskState] = {}
        for entry in self._entries():
            if entry.transition is not None:
                newest[entry.transition.task] = entry.transition.new
        return {task for task, state in newest.items() if state is TaskState.COMPLETED}

    def starts(self) -> list[str]:
        """Return the attempts' starts in their order, `TASK ATTEMPT RANK PID`."""
        return [line[6:] for line in _lines(self.record / "record") if line.startswith("start ")]

    def _said_by_tasks(self) -> Iterator[str]:
        yield from _lines(self.record / "violations")

    def _printed(self) -> Iterator[str]:
        for word in ("Traceback (most recent", "error[internal]", "InvalidTransition", "AssertionError"):
            if word in self.output:
                yield f"printed {word}: {self.output[self.output.index(word) :][:500]}"
        if not self.is_excused and self.status not in STATUSES:
            yield f"exit status {self.status}: {self.output[-400:]}"

    def _written(self) -> Iterator[str]:
        summary = self._summary()
        try:
            self._entries()
            tasks = decode_plan((self.directory / ".sflow/plan.json").read_bytes()).tasks
        except (FleetError, ValueError, OSError) as error:
            yield f"record of the run: {error}"
            return
        if isinstance(summary, str):
            yield summary
        elif summary is not None and not self.is_excused:
            states = {task.name: task.state for task in summary.tasks}
            if summary.exit_status != self.status:
                yield f"exit status {self.status}, but {summary.exit_status} in the summary"
            if len(states) != len(tasks):
                yield f"{len(states)} tasks in the summary, {len(tasks)} in the plan"
            if self.status == 0 and self._unfinished(states):
                yield f"exit status 0 with {self._unfinished(states)}"
            missing = self.completed() ^ {
                name for name, state in states.items() if state is TaskState.COMPLETED
            }
            if missing:
                yield f"summary and journal differ about {sorted(missing)}"

    @staticmethod
    def _unfinished(states: dict[str, TaskState]) -> dict[str, str]:
        fine = (TaskState.COMPLETED, TaskState.CANCELLED)
        return {
            name: state.value
            for name, state in states.items()
            if state not in fine or (state is TaskState.CANCELLED and not name.startswith("s"))
        }

    def _summary(self) -> "Summary | str | None":
        path = self.directory / ".sflow/summary.json"
        if not path.exists():
            return (
                None if self.is_excused or NOT_BEGUN in self.output else f"no summary: {self.output[-500:]}"
            )
        try:
            return read_summary(path.read_bytes())
        except (FleetError, ValueError) as error:
            return f"summary: {error}"

    def _entries(self) -> list[Entry]:
        try:
            return list(entries_of(self.directory, EVERYTHING))
        except FileNotFoundError:
            return []

    def _logs(self) -> Iterator[str]:
        """Every line of every log whole and once; all lines of what has completed, unless the run names the log as incomplete."""
        completed, given_up = self.completed(), self._given_up()
        whole: dict[str, int] = defaultdict(int)
        for path in sorted(self.directory.glob("*/*.log*")):
            lines = path.read_bytes().split(b"\n")
            expected: dict[str, int] = defaultdict(int)
            for number, raw in enumerate(lines):
                text = raw.decode(errors="replace").replace("\0", "\\0")
                match = LINE.match(text)
                if match is None:
                    if PART.search(text) and number != len(lines) - 1:
                        yield f"{path.name}:{number + 1}: a line that is not whole: {text!r}"
                    continue
                who, index = match[1], int(match[2])
                if index != expected[who]:
                    yield f"{path.name}:{number + 1}: line {index} of {who} instead of {expected[who]}"
                expected[who] = index + 1
            for who, count in expected.items():
                whole[who] = max(whole[who], count)
        for line in _lines(self.record / "record"):
            if not line.startswith("end "):
                continue
            _, task, attempt, rank, _ = line.split()
            who = f"{task}#{attempt}.{rank}"
            if {who, f"{task}#{attempt}"} & given_up:
                continue
            if task in completed and attempt == self._last_attempt(task) and whole[who] != self._wanted(task):
                yield f"{who} printed {self._wanted(task)} lines, its log has {whole[who]}"

    def _given_up(self) -> set[str]:
        """Return the ranks whose logs the run calls incomplete, as their nodes were lost: their exits are known all the same."""
        lines = _lines(self.directory / "sflow.log")
        found = [match[1].split(", ") for line in lines if (match := INCOMPLETE.search(line))]
        return {rank for ranks in found for rank in ranks}

    def _last_attempt(self, task: str) -> str:
        ended = [line.split() for line in _lines(self.record / "record") if line.startswith("end ")]
        return max((words[2] for words in ended if words[1] == task), key=int)

    def _wanted(self, task: str) -> int:
        return int((self.record / task / "lines").read_text())


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
