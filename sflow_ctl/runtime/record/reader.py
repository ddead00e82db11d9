"""Finds a run, and reads its directory, while it grows or long after.

The run directory is the interface (docs/architecture.md): this module reads it, `directory.py` writes it.
"""

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from protocol.errors import FleetError, RunDirectoryError, UsageError
from protocol.text.counted import counted
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.core.events import NodeStandsStill
from sflow_ctl.core.requests import Apply
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.plan.model import PLAN_VERSION, Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.resumed import Takeover
from sflow_ctl.report.run_view import RunView, TaskRecord
from sflow_ctl.report.summary import SUMMARY_VERSION, Summary, read_summary
from sflow_ctl.report.timeline import SavedTimeline
from sflow_ctl.runtime.files.formats import decoded, is_of_0_1, refuse_newer
from sflow_ctl.runtime.journal.entry import Entry
from sflow_ctl.runtime.journal.reader import SHOWN, JournalReader
from sflow_ctl.runtime.journal.snapshot import read_snapshot
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import HolderState, holder_of, last_written_ns, read_claim
from sflow_ctl.runtime.record.directory import RUN_FORMAT, ConnectionFacts, RunFacts
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.record.plan_file import PlanFile
from sflow_ctl.runtime.record.plan_growth import GrowthWatch, read_plan_file
from sflow_ctl.runtime.viewing.messages import Change

T = TypeVar("T")
MAX_LISTED = 8
_KNOWN = {layout.RUN: RUN_FORMAT, layout.PLAN: PLAN_VERSION, layout.SUMMARY: SUMMARY_VERSION}
"""The newest formats of files that this version reads."""
_AT_ONCE = 1000
"""Entries of the journal that are applied under one guard."""
_STAMP = lazy_pattern(r"-(\d{8}-\d{6})-[0-9a-f]{6}$")


class Liveness(StrEnum):
    """Whether a run's controller is alive."""

    RUNNING = "running"
    ENDED = "ended"
    DEAD = "dead"
    """It has ended without a record of how the run ended."""
    UNKNOWN = "unknown"
    """It is silent, but its death cannot be proved from here."""


def _newest_live(runs: Sequence[Path]) -> Path | None:
    """Return the newest run whose controller lives and can be reached."""
    for run in reversed(runs):
        if (run / layout.CONNECTION).exists():  # few have one: it goes with the controller
            with contextlib.suppress(FleetError):
                if RunReader(run).status().liveness is Liveness.RUNNING:
                    return run
    return None


def find_run(argument: str | None, output_dir: Path, *, prefers_live: bool = False) -> Path:
    """Return the directory of the run that `argument` names; without it, the newest one in `output_dir`.

    A name is a path, `last` for the newest, a run id, or the beginning of one (a Slurm job id is one) that fits a single run; the
    newest run of a job when several of its runs do. With `prefers_live`, the newest that still runs comes before those that
    have ended since. A run that is not in `output_dir` is looked for in the registry of this user's runs.

    Raises: UsageError.
    """
    if argument is not None:
        path = Path(argument)
        if (path / layout.RUN).is_file():
            return path
        if is_of_0_1(path):
            raise UsageError.of(
                "run-not-readable",
                f"{argument} is a run directory of sflow-ctl 0.1, whose files are in other places",
                hint="use sflow-ctl 0.1, or read its logs and results.csv",
            )
        if "/" in argument:
            raise UsageError.of(
                "no-such-run",
                f"{argument} is not a run directory",
                hint="a run directory contains .sflow/run.json",
            )
    runs = list_runs(output_dir)
    if argument == "last" and not any(run.name.startswith("last") for run in runs):
        argument, prefers_live = None, False
    if argument is None:
        if not runs:
            raise _no_runs(output_dir)
        live = _newest_live(runs) if prefers_live else None
        return runs[-1] if live is None else live
    fitting = _fitting(argument, runs) or _fitting(argument, _registered())
    exact = [run for run in fitting if run.name == argument]
    of_job = [run for run in fitting if argument.isdecimal() and run.name.startswith(f"{argument}-")]
    if exact or of_job or len(fitting) == 1:
        return (exact or of_job or fitting)[-1]
    if fitting:
        names = ", ".join(run.name for run in fitting[-MAX_LISTED:])
        raise UsageError.of(
            "ambiguous-run",
            f'{counted(len(fitting), "run")} begin with "{argument}"',
            hint=f"name one of: {names}",
        )
    if not runs:
        raise _no_runs(output_dir)
    raise UsageError.of(
        "no-such-run",
        f'no run in {output_dir} begins with "{argument}"',
        hint="the newest are: " + ", ".join(run.name for run in runs[-MAX_LISTED:]),
    )


def _fitting(argument: str, runs: Sequence[Path]) -> list[Path]:
    return [run for run in runs if run.name.startswith(argument)]


def _registered() -> list[Path]:
    """Return the runs of this user's registry, oldest first."""
    from sflow_ctl.runtime.catalog.registry import known_runs  # most runs are found without it

    dated = [(_started(run), run) for run in known_runs() if (run / layout.RUN).exists()]
    return [run for _, run in sorted(dated)]


def _no_runs(output_dir: Path) -> UsageError:
    elsewhere = [str(run) for run in _registered()]
    hint = "name the directory with --output-dir"
    if elsewhere:
        hint = f"name a run, e.g. {elsewhere[-1]}; sflow-ctl ps -a lists yours"
    return UsageError.of("no-runs", f"there are no runs in {output_dir}", hint=hint)


def list_runs(output_dir: Path) -> list[Path]:
    """Return all run directories in `output_dir`, oldest first."""
    try:
        entries = [entry for entry in os.scandir(output_dir) if not entry.name.startswith(".")]
    except OSError:
        return []
    runs = [(_started(entry.path), Path(entry.path)) for entry in entries if _is_run(entry)]
    return [path for _, path in sorted(runs)]


def _is_run(entry: "os.DirEntry[str]") -> bool:
    return os.path.exists(f"{entry.path}/{layout.RUN}")  # noqa: PTH110 - thousands of runs: not a Path for each


def _started(run: str | Path) -> tuple[str, int]:
    """Return a key in order of start: the stamp in the name, or the time of the file for a run with another name."""
    info = os.stat(f"{run}/{layout.RUN}")  # noqa: PTH116
    stamp = _STAMP.search(str(run))
    if stamp is not None:
        return (stamp[1], info.st_mtime_ns)
    import time

    return (time.strftime("%Y%m%d-%H%M%S", time.localtime(info.st_mtime)), info.st_mtime_ns)


class RunStatus(Struct, frozen=True):
    """Whether a run is still active, and the sentence for it."""

    liveness: Liveness
    text: str


class RunReader:
    """One run as its files describe it. `refresh` reads new lines.

    Raises: RunDirectoryError when it is not readable.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts = self._read(layout.RUN, lambda content: msgspec.json.decode(content, type=RunFacts))
        self._refuse_newer(layout.RUN, self.facts.format)
        self._growth = GrowthWatch(directory)
        self.plan_file = self._decoded(layout.PLAN, lambda: read_plan_file(directory))
        self._refuse_newer(layout.PLAN, self.plan_file.head.version)
        SECRETS.declare(self.plan_file.head.secrets, os.environ)
        self.takeovers: list[Takeover] = []
        """Controllers that were killed and replaced."""
        self.last_wall_ns = self.facts.started_wall_ns
        self.standing_still: dict[str, str] = {}
        """What holds up the agents that make no progress, by the names of their nodes."""
        self.journal = JournalReader(directory)
        self.guard: AbstractContextManager[object] = contextlib.nullcontext()
        """Held while `state` changes, never while files are read: where another thread shows it."""
        self.timeline: SavedTimeline | None = None
        """The events before those that `refresh` returns."""

    @cached_property
    def plan(self) -> Plan:
        """The whole plan."""
        return self._decoded(layout.PLAN, self.plan_file.plan)

    @cached_property
    def state(self) -> RunView:
        """The states of all tasks, as far as they were read."""
        return RunView(self.plan)

    def begin_from_snapshot(self, *, is_brief: bool = False, is_lazy: bool = False) -> None:
        """Begin with the newest snapshot of the state, if there is one: what came before it is not among the changes.

        If `is_brief`, the state has the plan without its tasks. If `is_lazy`, records of tasks are decoded when they are
        asked for.
        """
        found = read_snapshot(self.directory, self.facts.incarnation, self.facts.lineage)
        names = list(self.plan_file.names()) if is_lazy else None
        records = None if found is None else found.records(names)
        if found is not None and records is not None:
            self.state = RunView(self.head if is_brief else self.plan, records, found.paused_by)
            self.journal = JournalReader(self.directory, found.place)
            self.last_wall_ns = found.last_wall_ns
            self.timeline, self.takeovers = found.timeline, list(found.takeovers)
        elif is_brief:
            self.state = RunView(self.head, {name: TaskRecord(name) for name in self.plan_file.names()})

    def with_tasks(self, names: Collection[str]) -> None:
        """Give the state a plan that has these tasks, and not all others."""
        self.state.plan = self._decoded(layout.PLAN, lambda: self.plan_file.plan_with(names))

    @property
    def head(self) -> Plan:
        """The plan without its tasks."""
        return self.plan_file.head

    def refresh(self) -> list[Change]:
        """Return the changes of state written since the last call, after applying them to `state`."""
        try:
            return self._changes()
        except FileNotFoundError:
            return []  # nothing has been written yet
        except OSError as error:
            what = f"cannot read {self.directory / layout.JOURNAL}: {error.strerror or error}"
            raise RunDirectoryError.of("run-not-readable", what) from error

    def summary(self) -> Summary | None:
        """Return how the run ended; None while it has not."""
        try:
            found = read_summary(read_regular(self.directory / layout.SUMMARY))
        except (OSError, *UNREADABLE):
            return None
        self._refuse_newer(layout.SUMMARY, found.version)
        return found

    def status(self) -> RunStatus:
        """Return whether the run is still active, as far as this host can know."""
        if self.summary() is not None:
            return RunStatus(Liveness.ENDED, "ended")
        status = self.controller_status()
        if status.liveness is Liveness.DEAD and self.summary() is not None:  # it ended between the two looks
            return RunStatus(Liveness.ENDED, "ended")
        return status

    def last_sign_ns(self) -> int:
        """Return the last time at which the run's controller is known to have lived, in ns since 1970."""
        return max(self.last_wall_ns, last_written_ns(self.directory))

    def lose_live_tasks(self) -> None:
        """Mark the running tasks as lost with their controller."""
        self.state.lose_live_tasks(self.last_sign_ns())

    def controller_status(self) -> RunStatus:
        """Return whether the last controller is alive, also when an earlier one has left its summary."""
        facts = self.facts
        path = self.directory / layout.CLAIM
        claim = read_claim(path)
        if claim is None:
            text = f"its controller is pid {facts.pid} on {facts.host}, and {path} cannot be read"
            return RunStatus(Liveness.UNKNOWN, text)
        state, text, _ = holder_of(path, claim)
        if state is HolderState.ALIVE:
            return RunStatus(Liveness.RUNNING, text)
        if state is HolderState.UNKNOWN:
            return RunStatus(Liveness.UNKNOWN, text)
        return RunStatus(Liveness.DEAD, f"{text}; last activity {_clock_text(self.last_sign_ns())}")

    def connection(self) -> ConnectionFacts | None:
        """Return how to reach the controller; None when it accepts no viewers.

        Raises: RunDirectoryError for a secret that others can read.
        """
        path = self.directory / layout.CONNECTION
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            os.close(descriptor)
            return None
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_IMODE(info.st_mode) & 0o077 or info.st_uid not in (os.getuid(), 0):
                raise RunDirectoryError.of(
                    "connection-not-private",
                    f"{path} can be read by other users: its keys are not used",
                    hint=f"chmod 600 {path}, and find out who opened it",
                )
            try:
                return msgspec.json.decode(file.read(), type=ConnectionFacts)
            except UNREADABLE:
                return None  # being written

    def log_path(self, task: str, rank: int | None = None) -> Path:
        """Return the newest attempt's log of a task, or of one of its several ranks."""
        return self.directory / (log_path(task) if rank is None else rank_log_path(task, rank))

    def _changes(self) -> list[Change]:
        fresh: list[Change] = []
        entries = self.journal.entries(SHOWN)
        while some := list(itertools.islice(entries, _AT_ONCE)):  # reads without the guard
            revised = self._revised(some)
            with self.guard:
                if revised is not None:
                    self._show_revision(revised)
                for entry in some:
                    self._apply(entry, fresh)
        return fresh

    def _revised(self, entries: Sequence[Entry]) -> PlanFile | None:
        """Return the plan that a revision among these entries has made, or tasks that were added; None if it is known."""
        requests = [one for entry in entries if (one := entry.request) is not None and not one.answer.error]
        is_applied = any(isinstance(one.action, Apply) for one in requests)
        if not self._growth.has_news() and not is_applied:
            return None
        found = self._decoded(layout.PLAN, lambda: read_plan_file(self.directory))
        return found if found.head.revision > self.head.revision else None

    def _show_revision(self, file: PlanFile) -> None:
        self.plan_file = file
        SECRETS.declare(file.head.secrets, os.environ)
        self.__dict__.pop("plan", None)
        self.state.plan = self.plan
        for task in self.plan.tasks:
            self.state.tasks.setdefault(task.name, TaskRecord(task.name))

    def _apply(self, entry: Entry, fresh: list[Change]) -> None:
        if (told := entry.waiting) is not None:
            self.state.note_waiting(told.task, told.attempt, told.text, told.what)
        if entry.uploads is not None:
            self.state.note_uploaded(entry.uploads.task, entry.uploads.attempt, entry.uploads.outcome)
        if entry.checkpoint is not None:
            self.state.note_checkpoint(entry.checkpoint)
        if isinstance(entry.event, NodeStandsStill):
            self._note_standstill(entry.event)
        if entry.request is not None:
            self.state.note_request(entry.request)
        if entry.takeover is not None:
            self.takeovers.append(entry.takeover)
        if entry.transition is not None:
            self.last_wall_ns = entry.wall_ns
            self.state.apply(entry.transition, entry.wall_ns, entry.incarnation)
            fresh.append(Change(entry.wall_ns, entry.transition))

    def _note_standstill(self, event: NodeStandsStill) -> None:
        name = self.head.nodes[event.node].name
        if event.is_over:
            self.standing_still.pop(name, None)
        else:
            self.standing_still[name] = event.doing

    def _refuse_newer(self, name: str, found: int) -> None:
        refuse_newer(self.directory / name, found, _KNOWN[name], self.facts.version)

    def _read(self, name: str, decode: Callable[[bytes], T]) -> T:
        return self._decoded(name, lambda: decode(read_regular(self.directory / name)))

    def _decoded(self, name: str, decode: Callable[[], T]) -> T:
        return decoded(self.directory, name, decode, _KNOWN[name])


def _clock_text(wall_ns: int) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_ns / 1e9))
