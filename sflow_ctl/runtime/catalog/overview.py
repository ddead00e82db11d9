"""Finds all runs of a user, and what is known of each from its files. Called by `ps` and `clean`."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from protocol.errors import FleetError
from sflow_ctl.core.states import Outcome
from sflow_ctl.report.looking.run_list import RunEntry
from sflow_ctl.report.summary import SUMMARY_VERSION
from sflow_ctl.runtime.catalog.registry import known_runs
from sflow_ctl.runtime.files.formats import refuse_newer, refuse_newer_stamp
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim
from sflow_ctl.runtime.record.directory import RUN_FORMAT, RunFacts
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.record.reader import Liveness, RunReader, list_runs


class _End(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of `summary.json` that a list needs: the tasks of a large run take a hundred times as long."""

    version: int = 0
    outcome: Outcome
    exit_status: int
    started_wall_ns: int
    ended_wall_ns: int
    counts: dict[str, int]


_END = msgspec.json.Decoder(_End)
_FACTS = msgspec.json.Decoder(RunFacts)


def all_places(output_dir: Path) -> list[Path]:
    """Return the directories of all runs: those in `output_dir` and those of the registry, each once."""
    here, real = list_runs(output_dir), os.path.realpath(output_dir)
    places = {f"{real}/{run.name}" if not os.path.islink(run) else os.path.realpath(run): run for run in here}  # noqa: PTH114
    # a link of the registry has the absolute path, in most cases the real one
    others = {os.path.realpath(run): run for run in known_runs() if str(run) not in places}
    return [*places.values(), *(run for real, run in others.items() if real not in places)]


def newest_first(runs: Iterable[RunEntry]) -> list[RunEntry]:
    """Return runs in the order of lists."""
    return sorted(runs, key=lambda run: (run.started_wall_ns, run.run_id), reverse=True)


def all_runs(output_dir: Path) -> list[RunEntry]:
    """Return the runs in `output_dir` and those of the registry, the newest first."""
    return newest_first(map(run_entry, all_places(output_dir)))


def run_entry(directory: Path) -> RunEntry:
    """Return what the files of a run say of it; of one that cannot be read, why."""
    try:
        return _entry(directory)
    except FleetError as error:
        return _unreadable(directory, error.findings[0].what)
    except OSError as error:
        return _unreadable(directory, f"{error.filename}: {error.strerror}")


def live_runs(output_dir: Path) -> list[Path]:
    """Return the runs in `output_dir` whose controller lives, or may live, oldest first."""
    live = []
    for run in list_runs(output_dir):
        if (run / layout.CONNECTION).exists():  # few have one: it goes with the controller
            with suppress(FleetError):
                if RunReader(run).status().liveness in (Liveness.RUNNING, Liveness.UNKNOWN):
                    live.append(run)
    return live


def _entry(directory: Path) -> RunEntry:
    """Return the entry of a run. Raises: RunDirectoryError."""
    end = _end(directory)
    if end is None:
        return _unended(directory)
    facts = _facts(directory)
    writer = "" if facts is None else facts.version
    if facts is None:
        refuse_newer_stamp(directory, layout.RUN, RUN_FORMAT)
    else:
        refuse_newer(directory / layout.RUN, facts.format, RUN_FORMAT, writer)
    refuse_newer(directory / layout.SUMMARY, end.version, SUMMARY_VERSION, writer)
    claim = read_claim(f"{directory}/{layout.CLAIM}")
    return RunEntry(
        run_id=directory.name if facts is None else facts.run_id,
        directory=str(directory.absolute()),
        state=end.outcome.value,
        workflow="" if facts is None else facts.workflow,
        host="" if facts is None else facts.host,
        job_id="" if claim is None else claim.job_id,
        exit_status=end.exit_status,
        started_wall_ns=end.started_wall_ns,
        ended_wall_ns=end.ended_wall_ns,
        counts=end.counts,
        labels={} if facts is None else facts.labels,
    )


def _unended(directory: Path) -> RunEntry:
    """Return the entry of a run without a result. Raises: RunDirectoryError."""
    reader = RunReader(directory)
    status = reader.status()
    reader.begin_from_snapshot(is_brief=True)
    reader.refresh()
    if status.liveness is Liveness.ENDED:  # in between
        return _entry(directory)
    is_dead = status.liveness is Liveness.DEAD
    if is_dead:
        reader.lose_live_tasks()
    claim = read_claim(directory / layout.CLAIM)
    return RunEntry(
        run_id=reader.facts.run_id,
        directory=str(directory.absolute()),
        state="died" if is_dead else "running" if status.liveness is Liveness.RUNNING else "silent",
        text=status.text,
        workflow=reader.facts.workflow,
        host=reader.facts.host if claim is None else claim.host,
        job_id="" if claim is None else claim.job_id,
        started_wall_ns=reader.facts.started_wall_ns,
        ended_wall_ns=reader.last_sign_ns() if is_dead else None,
        counts={word.value: count for word, count in reader.state.counts().items()},
        labels=reader.facts.labels,
    )


def _end(directory: Path) -> _End | None:
    try:
        return _END.decode(read_regular(f"{directory}/{layout.SUMMARY}"))
    except (OSError, *UNREADABLE):
        return None


def _facts(directory: Path) -> RunFacts | None:
    try:
        return _FACTS.decode(read_regular(f"{directory}/{layout.RUN}"))
    except (OSError, *UNREADABLE):
        return None


def _unreadable(directory: Path, problem: str) -> RunEntry:
    try:
        started = directory.stat().st_mtime_ns
    except OSError:
        started = time.time_ns()
    return RunEntry(
        run_id=directory.name,
        directory=str(directory.absolute()),
        state="unreadable",
        text=problem,
        started_wall_ns=started,
    )
