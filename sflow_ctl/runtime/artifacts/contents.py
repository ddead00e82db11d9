"""What is in a plan's artifacts, in a few words each, so that a later resume can tell whether it has changed.

Called by `runtime/run/workflow.py` when everything has been fetched and nothing has started. A file counts by its
SHA-256, beyond `HASHED_BYTES` of an artifact by size and time of change: reading a large model again would cost minutes.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sflow_ctl.plan.artifact_mentions import MISSING, UNREADABLE, inline_contents
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.fetches import HubSnapshot
from sflow_ctl.plan.model import Plan

HASHED_BYTES = 32 * 1024 * 1024
"""Of one artifact; reading so much takes less than a tenth of a second."""
MAX_ENTRIES = 10_000
"""Of one directory; more are not looked at."""


def with_contents(plan: Plan) -> Plan:
    """Return the plan with a description of what is in each artifact, and in each file that tasks read."""
    read = dict.fromkeys(path for task in kinds_of(plan.tasks) for path in task.reads)
    if not plan.artifacts and not read:
        return plan
    from msgspec.structs import replace

    return replace(plan, contents={**contents(plan), **{path: _of_path(Path(path)) for path in read}})


def contents(plan: Plan) -> dict[str, str]:
    """Describe each artifact that tasks read: "sha256:...", "missing", "not readable". No place or URI is in it.

    Left out are what the workflow file itself holds, directories that the run makes, which tasks fill, and what this
    machine has no path of.
    """
    inline = inline_contents(plan)
    snapshots = {one.artifact: Path(one.link) for one in plan.fetches if isinstance(one, HubSnapshot)}
    found = {}
    for name, path in plan.artifacts.items():
        if name in snapshots:
            found[name] = _snapshot(snapshots[name])
        elif path.startswith("/") and path not in inline and path not in plan.directories:
            found[name] = _of_path(Path(path))
    return found


def _of_path(path: Path) -> str:
    try:
        info = path.stat()
        if stat.S_ISREG(info.st_mode):
            return _of_file(path, info, _Budget())
        if stat.S_ISDIR(info.st_mode):
            return _of_directory(path)
    except FileNotFoundError:
        return MISSING
    except OSError:
        return UNREADABLE
    return "not a file"


class _Budget:
    """How many bytes of an artifact may still be read."""

    def __init__(self) -> None:
        self.left = HASHED_BYTES

    def takes(self, size: int) -> bool:
        """Take the bytes of a file off the budget; False when it does not have them."""
        if size > self.left:
            return False
        self.left -= size
        return True


def _of_file(path: Path, info: os.stat_result, budget: _Budget) -> str:
    if not info.st_size:
        return "empty"  # or of /proc, where reading may never end
    if not budget.takes(info.st_size):
        return f"{info.st_size} bytes, changed {info.st_mtime_ns}"
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _of_directory(root: Path) -> str:
    budget, whole = _Budget(), hashlib.sha256()
    for count, path in enumerate(_files_below(root)):
        if count == MAX_ENTRIES:
            break
        try:
            info = path.stat()
            text = _of_file(path, info, budget) if stat.S_ISREG(info.st_mode) else "not a file"
        except OSError:
            text = UNREADABLE
        whole.update(f"{path.relative_to(root)}\0{text}\n".encode(errors="surrogateescape"))
    return f"directory sha256:{whole.hexdigest()}"


def _files_below(root: Path) -> Iterator[Path]:
    """Yield the files in a directory, and in those that links in it lead to; each directory once."""
    seen = {_identity(str(root))}
    for directory, names, files in os.walk(root, followlinks=True):
        if len(seen) > MAX_ENTRIES:
            return
        names.sort()
        found = {name: _identity(f"{directory}/{name}") for name in names}
        names[:] = [name for name, identity in found.items() if identity not in seen]
        seen.update(found.values())
        yield from (Path(directory, name) for name in sorted(files))


def _identity(directory: str) -> tuple[int, int]:
    try:
        info = os.stat(directory)  # noqa: PTH116 - one for each directory of a data set
    except OSError:
        return (-1, -1)
    return (info.st_dev, info.st_ino)


def _snapshot(link: Path) -> str:
    """Describe a hub's snapshot by its commit, which the directory that holds it is named after."""
    parts = Path(os.path.realpath(link)).parts
    if "snapshots" in parts:
        return "/".join(parts[parts.index("snapshots") + 1 :])
    return _of_path(link)
