"""Packs what a bug report about a run needs into one archive, without values of secrets. Called by `bundle`.

From the files as they are: a run that cannot be read is what a report is about, as often as not.
"""

import io
import os
import tarfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from protocol.errors import FleetError
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.files.likely_secrets import is_name_of_secret, masked_by_form
from sflow_ctl.runtime.journal.reader import lines_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import read_regular

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Of a file of ours; of a larger one the end is packed."""
LOG_BYTES = 64 * 1024
"""Of the end of each task's log."""
MAX_LOGS = 300
PRIVATE = 0o600
_LEFT_OUT = frozenset({layout.CONNECTION, layout.OPERATOR, layout.NONCE})
"""Keys, and what a process needs to show that it belongs to the run."""


def learn_secrets(plan: Plan) -> None:
    """Take the values of variables whose names say that they are secret for secrets, declared or not."""
    tables: list[Mapping[str, object]] = [
        plan.variables,
        *{id(task.env): task.env for task in plan.tasks}.values(),
    ]
    for name, value in (one for table in tables for one in table.items()):
        if is_name_of_secret(name):
            SECRETS.declare([name])
            SECRETS.learn(name, value)


def without_secrets(text: str) -> str:
    """Return a text without values of declared secrets, and without what looks like one."""
    return masked_by_form(SECRETS.mask.text(text))


class Bundle(Struct):
    """The files of an archive, by their names in it."""

    files: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    """Content and time of change in s since 1970."""
    problems: list[str] = field(default_factory=list)
    """What could not be read."""

    def add(self, name: str, text: str, changed: float | None = None) -> None:
        """Add a text, masked."""
        content = without_secrets(text).encode(errors="replace")
        self.files[name] = (content, time.time_ns() / 1e9 if changed is None else changed)

    def add_file(self, directory: Path, name: str, most: int = MAX_FILE_BYTES) -> None:
        """Add the end of a file below `directory`, masked; one that cannot be read is a problem."""
        path = directory / name
        try:
            content = read_regular(path)
            changed = path.stat().st_mtime
        except FileNotFoundError:
            return
        except OSError as error:
            self.problems.append(f"{name}: {error.strerror or error}")
            return
        cut = f"(the last {most} of {len(content)} bytes)\n" if len(content) > most else ""
        self.add(name, cut + content[-most:].decode(errors="replace"), changed)

    def write(self, target: Path, top: str) -> int:
        """Write the archive, readable by its owner only; return its size. Raises: OSError, FileExistsError."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                for name, (content, changed) in sorted(self.files.items()):
                    member = tarfile.TarInfo(f"{top}/{name}")
                    member.size, member.mtime, member.mode = len(content), changed, PRIVATE
                    archive.addfile(member, io.BytesIO(content))
            return file.tell()


def add_record(bundle: Bundle, directory: Path) -> None:
    """Add the run's own files, and its whole journal; not requests and measurements, which are in directories."""
    names = [f"{layout.OURS}/{name}" for name in _names(directory / layout.OURS)]
    for name in [*names, layout.RUN_LOG, layout.SUMMARY_LOG]:
        is_journal = name.startswith(f"{layout.OURS}/events.")
        if name not in _LEFT_OUT and not is_journal and not (directory / name).is_dir():
            bundle.add_file(directory, name)
    try:
        lines = _last_lines(lines_of(directory), MAX_FILE_BYTES)
    except (OSError, FleetError) as error:
        bundle.problems.append(f"{layout.JOURNAL}: {error}")
        return
    if lines:
        bundle.add(layout.JOURNAL, (b"\n".join(lines) + b"\n").decode(errors="replace"))


def add_logs(bundle: Bundle, directory: Path, tasks: Sequence[str]) -> None:
    """Add the ends of the logs of tasks, the first ones if they are many."""
    for task in tasks[:MAX_LOGS]:
        bundle.add_file(directory, log_path(task), LOG_BYTES)
    if len(tasks) > MAX_LOGS:
        bundle.problems.append(f"logs of {len(tasks) - MAX_LOGS} more tasks are left out")


def tasks_of_directory(directory: Path) -> list[str]:
    """Return the tasks that have a log, of a run whose plan cannot be read."""
    return [name for name in _names(directory) if (directory / log_path(name)).is_file()]


def _names(directory: Path) -> Iterator[str]:
    try:
        yield from sorted(os.listdir(directory))  # noqa: PTH208 - names are enough
    except OSError:
        return


def _last_lines(lines: Iterable[bytes], most: int) -> list[bytes]:
    kept: deque[bytes] = deque()
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line) + 1
        while size > most:
            size -= len(kept.popleft()) + 1
    return list(kept)
