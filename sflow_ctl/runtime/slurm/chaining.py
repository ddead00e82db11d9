"""The chain of jobs that a job is one of: its file, the job that follows, and what has moved. Called by `cli/chained.py`."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from protocol.errors import UsageError
from sflow_ctl.batch.chain import UNCERTAIN, Beginning, Chain, begun
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular, write_durably
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.slurm.commands import submit

MAX_FILES = 100_000
"""That are looked at to see whether something has moved."""
CANCEL_WITHIN_S = 30.0
_WRITTEN_BY_US = frozenset(("outputs.json",))


def read_chain(path: Path) -> Chain:
    """Return the chain of a file. Raises: UsageError."""
    try:
        return msgspec.json.decode(read_regular(path), type=Chain)
    except (OSError, *UNREADABLE) as error:
        what = f"the chain of this job cannot be read: {error}"
        raise UsageError.of(
            "chain-not-readable", what, str(path), "write the script again with sflow-ctl batch"
        ) from error


def write_chain(path: Path, chain: Chain) -> None:
    """Replace the file of a chain. Raises: OSError."""
    write_durably(path, msgspec.json.format(msgspec.json.encode(chain), indent=1) + b"\n")


def new_chain(chain: Chain, script: Path) -> Path:
    """Write the file of a chain beside its script, never over that of another one; return its path. Raises: OSError."""
    path = script.absolute().with_name(f"{script.stem}.{os.urandom(3).hex()}.chain.json")
    write_chain(path, msgspec.structs.replace(chain, script=str(script.absolute())))
    return path


def begin_link(path: Path, chain: Chain, job_id: str, workspace: Path) -> Beginning:
    """Add this job to the chain, and submit the one that follows it; return what it does. Raises: OSError, LaunchError.

    That a job is about to be submitted is recorded before it is: after a crash in between none is submitted twice.
    """
    found = begun(chain, job_id, mark_of(chain, workspace))
    if not found.submits:
        write_chain(path, chain)
        return found
    link = next(one for one in chain.links if one.job_id == job_id)
    link.follow_up = UNCERTAIN
    write_chain(path, chain)
    try:
        link.follow_up = submit(Path(chain.script), (f"--dependency=afterany:{job_id}",))
    finally:
        if link.follow_up == UNCERTAIN:  # refused: it is certain that there is none
            link.follow_up = ""
        write_chain(path, chain)
    return found


def cancel_follow_up(chain: Chain, job_id: str) -> str:
    """Cancel the job that follows this one; return its id, empty if there is none.

    Raises: OSError, subprocess.SubprocessError.
    """
    link = next((one for one in chain.links if one.job_id == job_id), None)
    if link is None or link.follow_up in ("", UNCERTAIN):
        return ""
    command = ("scancel", link.follow_up)
    subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=CANCEL_WITHIN_S, check=True
    )
    return link.follow_up


def mark_of(chain: Chain, workspace: Path) -> str:
    """Return the state of the work as one word: completed tasks, files of tasks but logs, and watched files."""
    digest = hashlib.sha256()
    directory = Path(chain.run)
    if chain.run and (directory / layout.RUN).is_file():
        reader = RunReader(directory)
        reader.refresh()
        done = sorted(name for name, one in reader.state.tasks.items() if one.state.value == "completed")
        digest.update(msgspec.json.encode(done))
        for task in reader.plan.tasks:
            _add(digest, _files_below(directory / task.name))
    for pattern in chain.watched:
        _add(digest, sorted(one for one in workspace.glob(pattern) if one.is_file())[:MAX_FILES])
    return digest.hexdigest()[:16]


def _files_below(directory: Path) -> Iterator[Path]:
    count = 0
    for root, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MAX_FILES:
                return
            is_ours = name in _WRITTEN_BY_US or name.startswith(".sflow_")
            if not name.endswith(".log") and not is_ours:
                yield Path(root, name)


def _add(digest: "hashlib._Hash", files: "Iterator[Path] | list[Path]") -> None:
    for path in files:
        try:
            info = path.stat()
        except OSError:
            continue  # gone meanwhile
        digest.update(f"{path}\0{info.st_size}\0{info.st_mtime_ns}\0".encode(errors="surrogateescape"))
