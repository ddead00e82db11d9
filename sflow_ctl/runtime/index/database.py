"""The index as a database: what was read of each run, as long as its files have not changed. A copy that may be deleted.

Any number of processes may use it at once. A damaged one, or one of another version, is made anew.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from sflow_ctl.report.looking.run_list import RunEntry
from sflow_ctl.report.selecting.query import Query, Term
from sflow_ctl.results.task_entries import TaskEntry

SCHEMA = 1
"""Grows when the tables or the entries in them change their meaning."""
WAIT_S = 5.0
"""For another process that writes."""
_TABLES = """
CREATE TABLE runs (directory TEXT PRIMARY KEY, signature TEXT NOT NULL, entry BLOB NOT NULL, has_tasks INTEGER NOT NULL);
CREATE TABLE tasks (directory TEXT NOT NULL, place INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
                    node TEXT NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (directory, place)) WITHOUT ROWID;
CREATE INDEX task_states ON tasks (state, reason);
"""
_COLUMNS = ("state", "reason", "node")
"""Keys of queries that are columns: the database leaves out what cannot fit."""


class UnusableIndexError(Exception):
    """The index cannot be used now; the run directories can."""


class IndexedRun(msgspec.Struct, frozen=True):
    """What was read of a run."""

    signature: str
    """Of its files before they were read; empty for a run that is to be read each time."""
    run: RunEntry
    tasks: Sequence[TaskEntry] | None = None
    """None where only the run was read."""


class Index:
    """An open index. Raises: UnusableIndexError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _make_private(path)
            self._base = self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise UnusableIndexError(f"{path}: {error}") from error
            self._base = self._anew()
        except OSError as error:
            raise UnusableIndexError(f"{path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def known(self) -> dict[str, tuple[str, RunEntry, bool]]:
        """Return of each run, by directory: signature, entry, and whether its tasks are here."""
        found = {}
        for directory, signature, entry, has_tasks in self._read("SELECT * FROM runs"):
            with suppress(msgspec.DecodeError):
                found[directory] = (signature, msgspec.json.decode(entry, type=RunEntry), bool(has_tasks))
        return found

    def put(self, read: Sequence[IndexedRun]) -> None:
        """Keep what was read of runs, in one change."""
        if not read:
            return
        with self._writing():
            for one in read:
                directory, tasks = one.run.directory, one.tasks
                self._forget(directory)
                row = (directory, one.signature, msgspec.json.encode(one.run), tasks is not None)
                self._base.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", row)
                rows = (
                    (directory, place, task.state, task.reason, task.node or "", msgspec.json.encode(task))
                    for place, task in enumerate(tasks or ())
                )
                self._base.executemany("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?)", rows)

    def forget(self, directories: Iterable[str]) -> None:
        """Remove runs that are gone."""
        gone = list(directories)
        if gone:
            with self._writing():
                for directory in gone:
                    self._forget(directory)

    def clear(self) -> None:
        """Remove all runs."""
        with self._writing():
            self._base.execute("DELETE FROM runs")
            self._base.execute("DELETE FROM tasks")

    def tasks(self, query: Query) -> Iterator[TaskEntry]:
        """Yield the tasks that a query may mean, of all runs, each run's in the order of its plan."""
        where, values = _condition(query)
        for (entry,) in self._read(f"SELECT entry FROM tasks{where} ORDER BY directory, place", values):
            with suppress(msgspec.DecodeError):
                yield msgspec.json.decode(entry, type=TaskEntry)

    def _forget(self, directory: str) -> None:
        self._base.execute("DELETE FROM runs WHERE directory = ?", (directory,))
        self._base.execute("DELETE FROM tasks WHERE directory = ?", (directory,))

    def _read(self, words: str, values: Sequence[str] = ()) -> "Iterator[Sequence[Any]]":
        try:
            with closing(self._base.execute(words, values)) as rows:
                yield from rows
        except sqlite3.Error as error:
            raise UnusableIndexError(f"{self.path}: {error}") from error

    def _writing(self) -> "_Writing":
        return _Writing(self._base, self.path)

    def _opened(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
        try:
            base.execute("PRAGMA synchronous = OFF")  # a copy: what a power failure damages is made anew
            base.execute("PRAGMA journal_mode = TRUNCATE")
            (version,) = base.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA:
                _make_tables(base)
        except BaseException:
            base.close()
            raise
        return base

    def _anew(self) -> sqlite3.Connection:
        try:
            self.path.unlink(missing_ok=True)
            Path(f"{self.path}-journal").unlink(missing_ok=True)
            _make_private(self.path)
            return self._opened()
        except (OSError, sqlite3.Error) as error:
            raise UnusableIndexError(f"{self.path}: {error}") from error


def _make_private(path: Path) -> None:
    """Make the file, for this user alone, if there is none. Raises: OSError, UnusableIndexError for another user's file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        owner = os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)
    if owner != os.getuid():
        raise UnusableIndexError(f"{path} belongs to another user")


class _Writing:
    """One change by one process: all of it, or nothing."""

    def __init__(self, base: sqlite3.Connection, path: Path) -> None:
        self._base, self._path = base, path

    def __enter__(self) -> None:
        try:
            self._base.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise UnusableIndexError(f"{self._path}: {error}") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with suppress(sqlite3.Error):
            self._base.execute("COMMIT" if kind is None else "ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise UnusableIndexError(f"{self._path}: {error}") from error


def _make_tables(base: sqlite3.Connection) -> None:
    """Make the tables, unless another process has just done so; what an older version has made goes."""
    base.execute("BEGIN IMMEDIATE")
    try:
        (version,) = base.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA:
            for name in ("runs", "tasks"):
                base.execute(f"DROP TABLE IF EXISTS {name}")
            for words in filter(None, map(str.strip, _TABLES.split(";"))):
                base.execute(words)
            base.execute(f"PRAGMA user_version = {SCHEMA}")
        base.execute("COMMIT")
    except BaseException:
        base.execute("ROLLBACK")
        raise


def _condition(query: Query) -> tuple[str, list[str]]:
    """Return a condition that all tasks meet which a query means: of each alternative what is about a column, exactly."""
    parts: list[str] = []
    values: list[str] = []
    for conditions in query.alternatives:
        exact = [one for one in conditions if one.key in _COLUMNS and _is_exact(one)]
        if not exact:
            return "", []
        parts.append(" AND ".join(f"{one.key} = ?" for one in exact))
        values += [one.pattern for one in exact]
    return (" WHERE " + " OR ".join(f"({part})" for part in parts), values) if parts else ("", [])


def _is_exact(term: Term) -> bool:
    return term.pattern != "unfinished" and not any(mark in term.pattern for mark in "*?[")


def signatures(directories: Iterable[str], files: Sequence[str]) -> Mapping[str, str]:
    """Return a text for each directory that changes whenever one of these files of it does."""
    found = {}
    for directory in directories:
        parts = []
        for name in files:
            try:
                info = os.stat(f"{directory}/{name}")  # noqa: PTH116 - thousands of runs: not a Path for each
            except OSError:
                parts.append("-")
            else:
                parts.append(f"{info.st_mtime_ns}.{info.st_size}.{info.st_ino}")
        found[directory] = " ".join(parts)
    return found
