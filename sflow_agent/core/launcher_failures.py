"""Reads the reports of launchers (torchrun, MPICH, Open MPI, srun) about the process that failed. Pure.

Called by `log_reading` if no line of the program itself explains its exit.
"""

from itertools import islice
from typing import NamedTuple

from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.signal_names import signal_name

_TORCHRUN = lazy_pattern(r"Root Cause \(first observed failure\):")
_TORCHRUN_LINES = 12
_TORCH_RANK = lazy_pattern(r"\brank\s*: (\d+) \(local_rank: \d+\)")
_TORCH_EXIT = lazy_pattern(r"\bexitcode\s*: (-?\d+)\b")
_LINES = lazy_pattern(
    r"EXIT STRING: [^(\n]+\(signal (?P<mpich>\d+)\)"
    r"|noticed that process rank (?P<open_mpi_rank>\d+) .*exited on signal (?P<open_mpi>\d+)"
    r"|srun: error: [^:\n]+: tasks? (?P<srun_rank>[\d,-]+): "
    r"(?:Exited with exit code (?P<srun_code>\d+)|(?P<srun_signal>Segmentation fault|Killed|Aborted|Bus error"
    r"|Floating point exception|Illegal instruction|Terminated|Hangup|Interrupt))"
)
_ENDED_BY_SRUN = ("Terminated", "Killed")
MAX_REPORTS = 10_000
_SIGNALS = {
    "Segmentation fault": 11, "Killed": 9, "Aborted": 6, "Bus error": 7, "Floating point exception": 8,
    "Illegal instruction": 4, "Terminated": 15, "Hangup": 1, "Interrupt": 2,
}  # fmt: skip
"""Texts of strsignal(3), as Slurm prints them."""


class LauncherFailure(NamedTuple):
    """A launcher's report."""

    position: int
    """The position of its line in the text."""
    reason: str
    """ "signal" or "exit"."""
    text: str


def launcher_failure(text: str) -> LauncherFailure | None:
    """Return the first report of a launcher in a log, or None."""
    return _torchrun(text) or _other(text)


def _torchrun(text: str) -> LauncherFailure | None:
    start = _TORCHRUN.search(text)
    if start is None:
        return None
    end = start.end()
    for _ in range(_TORCHRUN_LINES):
        end = text.find("\n", end) + 1
        if end <= 0:
            end = len(text)
            break
    rank, status = _TORCH_RANK.search(text, start.end(), end), _TORCH_EXIT.search(text, start.end(), end)
    if status is None:
        return None
    return _report(status.start(), f"rank {rank[1]}" if rank is not None else "a rank", int(status[1]))


def _other(text: str) -> LauncherFailure | None:
    matches = list(islice(_LINES.finditer(text), MAX_REPORTS))
    if not matches:
        return None
    # With --kill-on-bad-exit `srun` ends the other ranks, and may report them before the one that failed.
    match = next((one for one in matches if one["srun_signal"] not in _ENDED_BY_SRUN), matches[0])
    if match["mpich"] is not None:
        return _report(match.start(), "a rank", -int(match["mpich"]))
    if match["open_mpi"] is not None:
        return _report(match.start(), f"rank {match['open_mpi_rank']}", -int(match["open_mpi"]))
    status = int(match["srun_code"]) if match["srun_code"] is not None else -_SIGNALS[match["srun_signal"]]
    return _report(match.start(), f"rank {match['srun_rank']}", status)


def _report(position: int, who: str, status: int) -> LauncherFailure:
    if status < 0:
        return LauncherFailure(position, "signal", f"{who} was killed by {signal_name(-status)}")
    return LauncherFailure(position, "exit", f"{who} exited with status {status}")
