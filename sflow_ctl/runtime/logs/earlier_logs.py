"""Takes what agents of earlier controllers had left of their logs, and agents of this one hand over.

Only for attempts that a resumed run had begun before, and only bytes that are not here yet. No consumer sees them: what a
terminal shows is of this run's own attempts. The merged log of a gang gets the lines. Owned by the output thread; `intake.py`
calls it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from protocol.ids import RankId
from protocol.messages.packets import LogChunk
from sflow_ctl.plan.log_paths import earlier_log_path, log_path, rank_log_path
from sflow_ctl.runtime.logs.late_lines import add_late_lines, rank_prefix
from sflow_ctl.runtime.logs.store import RankLog, SpoolFiles, log_file, new_part


class EarlierLogs:
    """The logs of attempts that earlier controllers had begun; `attempts` has the last one of each task."""

    def __init__(
        self,
        run_directory: Path,
        attempts: Mapping[str, int],
        log_path_of: Callable[[RankId], str],
        gang_sizes: Mapping[str, int],
    ) -> None:
        self.note: Callable[[str], object] = lambda _text: None
        """Takes lines for `sflow.log`."""
        self._run_directory = run_directory
        self._attempts = attempts
        self._log_path_of = log_path_of
        self._gang_sizes = gang_sizes
        self._files = SpoolFiles()
        self._logs: dict[RankId, RankLog] = {}
        self._began_at: dict[RankId, int] = {}
        self._has_complained = False

    def owns(self, rank: RankId) -> bool:
        """Return whether the rank is one of an earlier controller's."""
        return 0 < rank.attempt.number <= self._attempts.get(rank.attempt.task, 0)

    def take(self, chunk: LogChunk, body: memoryview) -> int | None:
        """Write what is new of a chunk; return the offset to acknowledge, None for none: the chunk comes again."""
        log = self._log(chunk.rank)
        if log is None or chunk.offset < 0 or not chunk.is_spool:
            return None
        end = chunk.offset + len(body)
        cut = new_part(log.position, chunk.offset, len(body))
        if cut is None:
            return log.position
        try:
            self._files.append(log, body[cut:])
        except OSError as error:
            if not self._has_complained:
                self.note(f"cannot write {log.path}: {error.strerror}; trying again")
            self._has_complained = True
            return None
        if chunk.is_end:
            self._end(log)
        return end

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _log(self, rank: RankId) -> RankLog | None:
        log = self._logs.get(rank)
        if log is None:
            path = self._path_of(rank)
            if path is None:
                return None
            log = self._logs[rank] = RankLog(rank, path)
            log.position = self._began_at[rank] = self._files.existing_bytes(log)
        elif (path := self._path_of(rank)) is not None:
            log.path = path  # the next attempt may have begun
        return log

    def _path_of(self, rank: RankId) -> Path | None:
        """Return where the log is now. That of the last attempt is renamed when the next one begins, if it was there."""
        task, number = rank.attempt
        try:
            relative = self._log_path_of(rank)
        except (KeyError, IndexError):
            return None
        is_one_of_several = relative == rank_log_path(task, rank.rank)
        moved = log_file(
            self._run_directory, earlier_log_path(task, number, rank.rank if is_one_of_several else None)
        )
        if moved is None or number < self._attempts[task] or moved.exists():
            return moved
        return log_file(self._run_directory, relative)

    def _end(self, log: RankLog) -> None:
        self._files.close_one(log.rank)
        del self._logs[log.rank]
        added = log.position - self._began_at.pop(log.rank)
        if added:
            self._merge(log)
            name = log.path.relative_to(self._run_directory)
            self.note(
                f"{added} bytes of {name} had not arrived before the run was resumed; they are there now"
            )

    def _merge(self, log: RankLog) -> None:
        """Add the lines to the merged log, if the rank is one of several."""
        task, number = log.rank.attempt
        size = self._gang_sizes.get(task, 1)
        if size == 1:
            return
        moved = self._run_directory / earlier_log_path(task, number)
        is_moved = number < self._attempts[task] or moved.exists()
        merged = moved if is_moved else self._run_directory / log_path(task)
        try:
            add_late_lines(merged, log.path, rank_prefix(log.rank.rank, size))
        except OSError as error:
            self.note(f"cannot write {merged}: {error.strerror}")
