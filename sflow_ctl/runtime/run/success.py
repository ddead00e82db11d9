"""The workflow's own `success`, judged in the run directory when everything has ended."""

import stat
from collections.abc import Iterator
from pathlib import Path

from protocol.diagnosis.success import BLOCK_BYTES, Files, is_pattern, missing
from sflow_ctl.core.states import Reason
from sflow_ctl.core.tasks import log_path
from sflow_ctl.plan.model import Plan


def what_is_missing(plan: Plan, directory: Path) -> Reason | None:
    """The first thing that does not hold, or None. Logs are those of the last attempts."""
    assert plan.success is not None
    logs = [str(path) for task in plan.tasks if (path := directory / log_path(task.name)).exists()]
    try:
        cause = missing(plan.success, logs, Files(_matching, _read, _blocks))
    except Exception as error:  # noqa: BLE001 - whatever the files hold, the run must end in order
        return Reason("success", f"whether it succeeded cannot be told: {type(error).__name__}: {error}")
    return None if cause is None else Reason(cause.word, cause.text, hint=cause.hint, line=cause.line)


def _matching(path: str) -> Iterator[tuple[str, int]]:
    for one in Path("/").glob(path.lstrip("/")) if is_pattern(path) else (Path(path),):
        try:
            found = one.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(found.st_mode):
            yield str(one), found.st_size


def _read(path: str, limit: int) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(limit)


def _blocks(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        while data := file.read(BLOCK_BYTES):
            yield data
