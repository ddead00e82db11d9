"""A run: what it is doing or has done, its outputs and logs, and requests to change it."""

import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from protocol.errors import ControllerAwayError
from sflow_ctl.api.models import Instance, RunEvent, RunState, TaskLine, moment, row_of
from sflow_ctl.api.notebook import live_view, run_html
from sflow_ctl.api.starting import sflow_ctl
from sflow_ctl.cli.looking.event_lines import USUAL, event_of
from sflow_ctl.cli.options.run_option import chosen_tasks, output_directory_of_settings
from sflow_ctl.core.requests import AnyAction, Pause, RestartTasks, SignalTasks, StopRun, StopTasks, Unpause
from sflow_ctl.report.request_text import answer_lines
from sflow_ctl.report.selecting.task_query import fitting_tasks, task_query
from sflow_ctl.results.recorded import block_values
from sflow_ctl.runtime.catalog.overview import all_runs
from sflow_ctl.runtime.handover.run_outputs import read_outputs
from sflow_ctl.runtime.operating.client import ask, check_accepted
from sflow_ctl.runtime.record.reader import Liveness, RunReader, find_run
from sflow_ctl.runtime.reporting.reading import values_of_task
from sflow_ctl.runtime.resuming.overrides import set_values
from sflow_ctl.runtime.viewing.journal_feed import JournalFeed
from sflow_ctl.runtime.viewing.log_parts import Wanted, log_parts, merged
from sflow_ctl.runtime.viewing.waiting import Waiter

LOOK_S = 0.1
LIVENESS_S = 2.0


class Run:
    """A run of this user, or of anybody whose run directory can be read.

    Its methods read the run's files when they are called, so a live run has new answers each time. All raise FleetError: its
    text says what is wrong, where, and what to do.
    """

    def __init__(self, directory: str | PathLike[str]) -> None:
        """`directory` is a run directory. Raises: FleetError for one that is not."""
        self._directory = Path(directory).absolute()
        self._id = RunReader(self._directory).facts.run_id

    @classmethod
    def open(
        cls, name: str | PathLike[str] | None = None, output_dir: str | PathLike[str] | None = None
    ) -> "Run":
        """Return the run that a path, an id or the beginning of one names, as commands understand it.

        Args:
            name: None is the newest live run, else the newest.
            output_dir: The parent of run directories. Default: as for commands.

        Raises: FleetError if there is none, or several are meant.
        """
        parent = output_directory_of_settings() if output_dir is None else Path(output_dir)
        return cls(find_run(None if name is None else str(name), parent, prefers_live=True))

    @property
    def id(self) -> str:
        """The id of the run."""
        return self._id

    @property
    def directory(self) -> Path:
        """The run directory, absolute."""
        return self._directory

    @property
    def labels(self) -> dict[str, str]:
        """The words about it: `workflow.labels`, and those of `run --label`."""
        return dict(RunReader(self._directory).facts.labels)

    def status(self) -> RunState:
        """Return the state of the run."""
        reader = self._read()
        liveness = reader.status()  # first: a run that has ended has its summary
        summary = reader.summary()
        return RunState(
            run_id=self._id,
            liveness=liveness.liveness,
            text=liveness.text,
            outcome=None if summary is None else summary.outcome,
            exit_status=None if summary is None else summary.exit_status,
            started=moment(reader.facts.started_wall_ns),
            ended=None if summary is None else moment(summary.ended_wall_ns),
            cause="" if summary is None or summary.cause is None else summary.cause.text,
            counts=reader.state.counts(),
        )

    def instances(self, *queries: str) -> list[Instance]:
        """Return the concrete tasks, in the order of the plan; with queries only those that one of them means.

        A query is as `status --query` takes it: `run.instances("state=failed,task=train*")`.
        """
        return _instances(self._read(), queries)

    def __getitem__(self, name: str) -> Instance:
        """Return one concrete task. Raises: KeyError."""
        found = next((one for one in self.instances() if one.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def outputs(self, task: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the values that tasks have given, by concrete task: of `outputs`, `result` and metrics.

        Args:
            task: A concrete task, a replicated one, or a pattern. Default: all that have values.
        """
        return _outputs(RunReader(self._directory), task)

    def workflow_outputs(self) -> dict[str, Any]:
        """Return the values of `workflow.outputs`, by name: null for those without one, and none before the run has ended."""
        read = read_outputs(self._directory)
        return {} if read is None else read.values

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each concrete task: its facts, its swept values, its outputs."""
        reader = self._read()
        values = _outputs(reader, None)
        return [row_of(one, values.get(one.name, {})) for one in _instances(reader, ())]

    def frame(self, library: Literal["pandas", "polars"] = "pandas") -> Any:
        """Return `rows()` as a data frame of pandas or polars, which must be installed. Raises: ImportError."""
        if library == "polars":
            return import_module("polars").from_dicts(self.rows(), infer_schema_length=None)
        return import_module("pandas").DataFrame(self.rows())

    def lines(self, *tasks: str, attempt: int | None = None) -> Iterator[TaskLine]:
        """Yield the lines of tasks that are there now, in the order of their times.

        Args:
            *tasks: Concrete or replicated tasks, or patterns. Default: all.
            attempt: The number of an attempt, from 1; 0 means all. Default: the newest of each.
        """
        reader = RunReader(self._directory)
        changes = reader.refresh()
        names = chosen_tasks(reader, tasks) if tasks else list(reader.state.tasks)
        for line in merged(log_parts(reader, changes, names, Wanted(attempt=attempt))):
            at = moment(line.wall_ns) if line.wall_ns else None
            yield TaskLine(task=line.label, text=line.data.decode(errors="replace"), time=at)

    def logs(self, *tasks: str, attempt: int | None = None) -> str:
        """Return the text of `lines`."""
        return "".join(f"{line.text}\n" for line in self.lines(*tasks, attempt=attempt))

    def events(self, *, is_following: bool = False, types: Sequence[str] = USUAL) -> Iterator[RunEvent]:
        """Yield what has happened, in order; with `is_following` also what comes, until the run ends.

        Args:
            is_following: Wait for further events.
            types: Those of `sflow-ctl events --type`.
        """
        reader, feed = RunReader(self._directory), JournalFeed(self._directory)
        look_at = 0.0
        while True:
            is_over = not is_following or reader.summary() is not None
            if not is_over and time.monotonic() >= look_at:  # before the journal is read: it is complete then
                look_at = time.monotonic() + LIVENESS_S
                is_over = reader.status().liveness is Liveness.DEAD
            for entry in feed.entries():
                shown = event_of(entry, reader.plan)
                if shown.type in types:
                    at = moment(entry.wall_ns)
                    yield RunEvent(seq=entry.seq, time=at, type=shown.type, task=shown.task, text=shown.text)
            if is_over:
                return
            time.sleep(LOOK_S)

    def wait(
        self, *tasks: str, until: Literal["end", "ready"] = "end", timeout_s: float | None = None
    ) -> RunState:
        """Wait until the run, or these tasks, have ended or are ready; return the state of the run then.

        A notebook shows meanwhile how far the run is.

        Args:
            *tasks: Concrete or replicated tasks, or patterns. Default: the end of the run itself.
            until: With "ready", tasks without a readiness probe count once they have completed.
            timeout_s: Give up after so many seconds.

        Raises: TimeoutError; FleetError when the controller has died, or a task has ended that was to become ready.
        """
        reader = RunReader(self._directory)
        waiter = Waiter(reader, chosen_tasks(reader, tasks), until)
        view = live_view(self._directory)
        answer = waiter.wait(timeout_s, None if view is None else view.show)
        if view is not None:
            view.show(waiter.reader.state, is_last=True)
        if answer.why == "timeout":
            raise TimeoutError(answer.text)
        if answer.why == "task-ended":
            raise ControllerAwayError.of("task-has-ended", answer.text, hint="run.logs() has the reason")
        if answer.why == "died":
            hint = f"continue it with sflow-ctl run --resume {self._directory}"
            raise ControllerAwayError.of("run-died", answer.text, hint=hint)
        return self.status()

    def stop(self, *tasks: str, is_killed: bool = False) -> str:
        """Stop tasks of a live run, or the run itself, in order; return what happens. Does not wait.

        Args:
            *tasks: Concrete or replicated tasks, or patterns. Default: the whole run.
            is_killed: At once, without grace.
        """
        if not tasks:
            return self._ask(StopRun(is_killed=is_killed))
        return self._ask(StopTasks(tasks=self._chosen(tasks), is_killed=is_killed))

    def restart(self, *tasks: str) -> str:
        """End what runs of these tasks of a live run, and start them again; also those that have ended."""
        return self._ask(RestartTasks(tasks=self._chosen(tasks)))

    def signal(self, number: int, *tasks: str) -> str:
        """Send a signal to all processes of running tasks of a live run."""
        return self._ask(SignalTasks(tasks=self._chosen(tasks), signal=int(number)))

    def pause(self) -> str:
        """Start nothing new until `unpause`; what runs continues."""
        return self._ask(Pause())

    def unpause(self) -> str:
        """Start tasks again."""
        return self._ask(Unpause())

    def rerun(self, *tasks: str, queries: Sequence[str] = (), settings: Sequence[str] = ()) -> "Run":
        """Run tasks of this run again, in its directory, with what depends on them; return it once they have ended.

        Args:
            *tasks: Concrete or replicated tasks. Without any, and without queries, all that has no result.
            queries: As of `status --query`.
            settings: As of `rerun --set`: "tasks.train.timeout=5m", or "lr=0.1" for a variable.

        Raises: FleetError, StartError if it is refused. A run that fails does not raise: see `status`.
        """
        options = [word for query in queries for word in ("--query", query)]
        options += [word for setting in settings for word in ("--set", setting)]
        sflow_ctl(["rerun", str(self._directory), *tasks, *options])
        return self

    def report(self, path: str | PathLike[str] | None = None) -> Path:
        """Write the report of the run as it is now, and return its path. Default: `report.html` in the run directory."""
        written = self._directory / "report.html" if path is None else Path(path)
        sflow_ctl(["report", str(self._directory), "--output", str(written)])
        return written

    def __repr__(self) -> str:
        """Return the class and the directory."""
        return f"Run({str(self._directory)!r})"

    def _repr_html_(self) -> str:
        """Return the state and the table of tasks, for notebooks."""
        return run_html(self.status(), self.rows())

    def _read(self) -> RunReader:
        reader = RunReader(self._directory)
        reader.refresh()
        if reader.summary() is None and reader.status().liveness is Liveness.DEAD:
            reader.lose_live_tasks()
        return reader

    def _chosen(self, tasks: Sequence[str]) -> tuple[str, ...]:
        return tuple(chosen_tasks(RunReader(self._directory), tuple(tasks)))

    def _ask(self, action: AnyAction) -> str:
        reader = RunReader(self._directory)
        answer = ask(reader, action).answer
        check_accepted(reader, answer)
        return "\n".join(answer_lines(answer))


def runs(output_dir: str | PathLike[str] | None = None) -> list[Run]:
    """Return the runs of this user that can be read, the newest first, as `sflow-ctl ps -a` finds them."""
    parent = output_directory_of_settings() if output_dir is None else Path(output_dir)
    return [Run(one.directory) for one in all_runs(parent) if one.state != "unreadable"]


def _instances(reader: RunReader, queries: Sequence[str]) -> list[Instance]:
    names = fitting_tasks(task_query(queries), reader.state) if queries else list(reader.state.tasks)
    planned = {task.name: task for task in reader.plan.tasks}
    return [Instance.of(reader.state.tasks[name], planned[name], reader.plan) for name in names]


def _outputs(reader: RunReader, task: str | None) -> dict[str, dict[str, Any]]:
    names = set(chosen_tasks(reader, (task,))) if task is not None else None
    given = set_values(reader)
    return {
        planned.name: values_of_task(reader.directory, planned, given.get(planned.name, {})) or {}
        for planned in reader.plan.tasks
        if (planned.has_values or block_values(planned)) and (names is None or planned.name in names)
    }
