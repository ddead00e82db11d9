"""Decides where this node's logs are written: the run directory if it is the controller's own, else a private spool.

A spool has an index of the ranks whose logs it holds, so that an agent of a resumed run can hand over what its
predecessor could not. `agent.py` makes and removes it.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from protocol.ids import RankId
from protocol.messages.config import AgentConfig

KEPT_BYTES = 1024 * 1024
"""Of the beginning and of the end of a delivered log: more than a diagnosis reads."""
FREED_AT_ONCE_BYTES = 4 * 1024 * 1024
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_INDEX = ".index"
_EARLIER = ".earlier"
"""Below a spool: those of earlier agents of the run, which this one hands over. No task's directory begins with a dot."""


class IndexEntry(Struct, frozen=True, omit_defaults=True):
    """A line of a spool's index: a rank has started, or its log begins anew."""

    rank: RankId
    log: str
    earlier_log: str | None = None
    """Where the log of the attempt before was moved to."""
    base: int = 0
    """Bytes that were sent of the log before it was truncated."""


class LeftLog(Struct, frozen=True):
    """A log in the spool of an earlier agent."""

    rank: RankId
    path: str
    base: int


def shares_run_directory(config: AgentConfig) -> bool:
    """Return whether the run directory here is the controller's: its nonce file holds our nonce."""
    if config.spool_directory is not None:
        return False
    try:
        with open(config.nonce_path or f"{config.run_directory}/.sflow/nonce", encoding="ascii") as file:  # noqa: PTH123
            return file.read() == config.nonce
    except (OSError, UnicodeDecodeError):
        return False


def make_spool(config: AgentConfig) -> str:
    """Make a private directory on this node for the run's logs. Raises: OSError, also when it is not ours."""
    parent = _parent(config)
    spool = f"{parent}/{_name(config.marker)}{config.node}"
    os.makedirs(parent, exist_ok=True)  # noqa: PTH103
    with contextlib.suppress(FileExistsError):
        os.mkdir(spool, 0o700)  # noqa: PTH102
    if _is_private(spool):
        return spool
    # Another user can guess the name, and make it first: that costs the name, not the run.
    import tempfile

    return tempfile.mkdtemp(prefix=f"{os.path.basename(spool)}-", dir=parent)  # noqa: PTH119


def hold(spool: str) -> int:
    """Lock a spool for as long as this process lives, so that others can see that it is in use; return the descriptor."""
    import fcntl

    descriptor = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def unused_spools(parent: str) -> Iterator[tuple[str, str, int]]:
    """Yield (path, marker of the run, bytes) of this user's spools in a directory that no agent uses."""
    import fcntl

    pattern = re.compile(rf"sflow-{os.getuid()}-(.+-[0-9a-f]{{8}})-\d+(-\w+)?")
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(parent)):  # noqa: PTH208
            path, match = f"{parent}/{name}", pattern.fullmatch(name)
            if match is None or not _is_private(path):
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path, match[1], _blocks_below(path)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)


def _blocks_below(path: str) -> int:
    files = [f"{folder}/{name}" for folder, _, names in os.walk(path) for name in names]
    return sum(os.lstat(one).st_blocks * 512 for one in files)


def remove_spool(path: str) -> None:
    """Remove the spool: everything in it has reached the controller."""
    import shutil  # imports every compression library: not at the start

    shutil.rmtree(path, ignore_errors=True)


def log_size(path: str) -> int:
    """Return the bytes of a log; 0 for one that does not exist yet."""
    return max(0, size_if_there(path))


def size_if_there(path: str) -> int:
    """Return the bytes of a log; -1 for one that does not exist now."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - called for every log that grows
    except OSError:
        return -1


class DeliveredPart(Struct):
    """How much of a spooled log has been given back to the disk because the controller has it.

    Its beginning and its end stay: the end of its task is explained by them.
    """

    path: str
    freed: int = KEPT_BYTES
    is_kept: bool = False
    """The file system cannot do it."""

    def free_to(self, offset: int) -> None:
        """Give back what is before `offset` in the file, in large steps."""
        end = offset - KEPT_BYTES
        if self.is_kept or end - self.freed < FREED_AT_ONCE_BYTES:
            return
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                _free_blocks(descriptor, self.freed, end)
            finally:
                os.close(descriptor)
        except OSError:
            self.is_kept = True
        self.freed = end


class SpoolIndex:
    """The index of the spool at `base`, which only grows. Without it the logs stay, but not whose they are."""

    def __init__(self, base: str) -> None:
        self._path = f"{base}/{_INDEX}"

    def note(self, entry: IndexEntry) -> None:
        """Add an entry. A full disk costs the entry: the log itself will complain."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, msgspec.json.encode(entry) + b"\n")
            finally:
                os.close(descriptor)


def set_aside(config: AgentConfig) -> None:
    """Make room for a new spool where this agent takes the place of one that was killed: the earlier one is handed over."""
    path = f"{_parent(config)}/{_name(config.marker)}{config.node}"
    with contextlib.suppress(OSError):
        if _is_private(path):
            os.rename(path, _set_aside(config))  # noqa: PTH104


def has_left_spools(config: AgentConfig) -> bool:
    """Return whether earlier agents of this run have left spools on this node."""
    return bool(config.predecessors or config.follows) and any(_left_spools(config))


def take_left_spools(config: AgentConfig, spool: str) -> list[LeftLog]:
    """Move what earlier agents have left into this agent's spool, and return the logs in it.

    Of several agents on one node each spool is taken by one. Raises: OSError.
    """
    place = f"{spool}/{_EARLIER}"
    os.makedirs(place, 0o700, exist_ok=True)  # noqa: PTH103
    for path in list(_left_spools(config)):
        with contextlib.suppress(OSError):  # another agent has it
            os.rename(path, f"{place}/{os.path.basename(path)}")  # noqa: PTH104, PTH119
    return list(_logs_below(place))


def _parent(config: AgentConfig) -> str:
    return config.spool_directory or os.environ.get("TMPDIR") or "/tmp"


def _name(marker: str) -> str:
    return f"sflow-{os.getuid()}-{marker}-"


def _set_aside(config: AgentConfig) -> str:
    return f"{_parent(config)}/{_name(config.marker)}{config.node}-left"


def _left_spools(config: AgentConfig) -> Iterator[str]:
    parent = _parent(config)
    if config.follows and _is_private(_set_aside(config)):
        yield _set_aside(config)
    names = tuple(_name(marker) for marker in config.predecessors)
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):  # noqa: PTH208
            path = f"{parent}/{name}"
            if name.startswith(names) and _is_private(path):
                yield path


def _logs_below(place: str) -> Iterator[LeftLog]:
    """Return the logs of the spools in a directory, and of those that their agents had taken over."""
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(place)):  # noqa: PTH208
            yield from _logs_of(f"{place}/{name}")
            yield from _logs_below(f"{place}/{name}/{_EARLIER}")


def _logs_of(spool: str) -> Iterator[LeftLog]:
    places: dict[str, IndexEntry] = {}
    for entry in _read_index(f"{spool}/{_INDEX}"):
        if entry.earlier_log is not None and entry.log in places:
            places[entry.earlier_log] = places.pop(entry.log)
        places[entry.log] = entry
    for log, entry in places.items():
        path = f"{spool}/{log}"
        if stat.S_ISREG(_mode(path)):
            yield LeftLog(entry.rank, path, entry.base)


def _read_index(path: str) -> Iterator[IndexEntry]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):  # torn by a full disk
            yield msgspec.json.decode(line, type=IndexEntry)


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _is_private(path: str) -> bool:
    """Return whether a directory is this user's alone; a link to one is not."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _free_blocks(descriptor: int, start: int, end: int) -> None:
    """Give back the disk blocks of a part of a file, which reads as zeros then; sizes and offsets stay.

    Source: fallocate(2). Raises: OSError where the file system cannot do that.
    """
    import ctypes  # few logs are so long

    libc = ctypes.CDLL(None, use_errno=True)
    flags = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
    if libc.fallocate(descriptor, flags, ctypes.c_long(start), ctypes.c_long(end - start)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate(FALLOC_FL_PUNCH_HOLE)")
