"""Copies or links the files of outputs into one directory, with a manifest. Nothing that is there is replaced."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from protocol.errors import UsageError
from protocol.messages.handover import RecordedFile
from sflow_ctl.runtime.artifacts.checksum import sha256_of
from sflow_ctl.runtime.handover.listing import ListedOutput
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular, write_durably

MANIFEST = "manifest.json"
SCHEMA = "sflow.collected.v1"
_SHOWN = 5


class CollectedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the directory."""

    path: str
    """Relative to the directory."""
    source: str
    """Where it was; absolute."""
    bytes: int
    sha256: str


class CollectedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output in the manifest."""

    task: str
    attempt: int
    name: str
    kind: str
    value: Any = None
    files: tuple[CollectedFile, ...] = ()


class CollectedRun(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`, and `collect --json`."""

    schema: str = SCHEMA
    """The version of this format."""
    run_id: str
    directory: str
    """The run directory, absolute."""
    outputs: tuple[CollectedOutput, ...]


class Collected(NamedTuple):
    """What was done."""

    manifest: CollectedRun
    new: int
    """Files that were copied or linked."""
    there: int
    """Files that were there already, with the same content."""
    copied: int
    """Of those that were to be linked, how many had to be copied."""


def collect(
    outputs: Sequence[ListedOutput], target: Path, run_id: str, directory: Path, *, links: bool
) -> Collected:
    """Collect files of outputs. Raises: UsageError, before anything is written, for what is in the way or not as recorded."""
    plan = [(one, list(_targets(one))) for one in outputs if not one.is_missing]
    wanted: dict[str, RecordedFile] = {}
    for one, files in plan:
        for path, file in files:
            if wanted.setdefault(path, file) is not file:
                what = f"two files of {one.task}.{one.name} would be {path}"
                raise UsageError.of(
                    "not-collected", what, hint="collect the tasks one by one: collect RUN TASK"
                )
    kept = _kept(target, run_id)
    digests = _checked(wanted)
    there = _already_there(wanted, digests, target)
    new = copied = 0
    for path, file in wanted.items():
        if path not in there:
            copied += _take(Path(file.path), target / path, digests[path], links=links)
            new += 1
    manifest = CollectedRun(
        run_id=run_id,
        directory=str(directory),
        outputs=(*_others(kept, plan), *(_collected(one, files, digests) for one, files in plan)),
    )
    write_durably(
        target / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n", 0o644
    )
    return Collected(manifest, new, len(there), copied)


def _targets(one: ListedOutput) -> Iterator[tuple[str, RecordedFile]]:
    """Yield each file of an output with its path in the directory: TASK/OUTPUT/PATH."""
    root = one.path if one.kind == "dir" or len(one.files) > 1 else ""
    for file in one.files:
        inside = file.path.removeprefix(f"{root}/") if root and file.path.startswith(f"{root}/") else ""
        yield f"{one.task}/{one.name}/{inside or os.path.basename(file.path)}", file  # noqa: PTH119 - text
    if one.kind == "manifest":
        name = os.path.basename(one.path)  # noqa: PTH119
        with contextlib.suppress(OSError):
            status = Path(one.path).stat()
            yield (
                f"{one.task}/{name}",
                RecordedFile(path=one.path, bytes=status.st_size, mtime_ns=status.st_mtime_ns),
            )


def _kept(target: Path, run_id: str) -> CollectedRun | None:
    """Return the manifest that is there. Raises: UsageError for one of another run."""
    path = target / MANIFEST
    if not path.exists():
        return None
    hint = "name another directory with --to"
    try:
        kept = msgspec.json.decode(read_regular(path), type=CollectedRun)
    except (OSError, *UNREADABLE):
        raise UsageError.of("not-collected", f"{path} is not a manifest of collect", hint=hint) from None
    if kept.run_id != run_id:
        raise UsageError.of(
            "not-collected", f"{target} has what was collected of run {kept.run_id}", hint=hint
        )
    return kept


def _others(
    kept: CollectedRun | None, plan: Sequence[tuple[ListedOutput, object]]
) -> Iterator[CollectedOutput]:
    """Yield what an earlier collection has, and this one has not."""
    now = {(one.task, one.name) for one, _ in plan}
    for one in kept.outputs if kept is not None else ():
        if (one.task, one.name) not in now:
            yield one


def _checked(wanted: dict[str, RecordedFile]) -> dict[str, str]:
    """Return the digests of files. Raises: UsageError for those that are not as they were recorded."""
    digests: dict[str, str] = {}
    wrong: list[str] = []
    for path, file in wanted.items():
        try:
            size, digest = Path(file.path).stat().st_size, sha256_of(Path(file.path))
        except OSError as error:
            wrong.append(f"{file.path}: {error.strerror}")
            continue
        if size != file.bytes or (file.sha256 and digest != file.sha256):
            wrong.append(f"{file.path}: it has changed since it was recorded")
        digests[path] = digest
    if wrong:
        raise _refused("cannot be collected", wrong, "run the task again, or leave it out: collect RUN TASK")
    return digests


def _already_there(wanted: dict[str, RecordedFile], digests: dict[str, str], target: Path) -> set[str]:
    """Return the files that are there with the same content. Raises: UsageError for those with another one."""
    there: set[str] = set()
    other: list[str] = []
    for path, file in wanted.items():
        place = target / path
        if not os.path.lexists(place):
            continue
        is_same = place.is_file() and place.stat().st_size == file.bytes and sha256_of(place) == digests[path]
        (there.add if is_same else other.append)(path)
    if other:
        places = [str(target / path) for path in other]
        raise _refused("is there already, with another content", places, "name another directory with --to")
    return there


def _refused(what: str, texts: Sequence[str], hint: str) -> UsageError:
    more = f", and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return UsageError.of("not-collected", f"{what}: {'; '.join(texts[:_SHOWN])}{more}", hint=hint)


def _take(source: Path, target: Path, sha256: str, *, links: bool) -> bool:
    """Link or copy a file; return whether it was copied although it was to be linked. Raises: OSError, UsageError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if links:
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:
            pass  # another file system, or one without links
        else:
            return False
    part = target.with_name(f"{target.name}.part")
    try:
        shutil.copyfile(source, part)
        shutil.copystat(source, part)
        if sha256_of(part) != sha256:
            raise _refused("changed while it was copied", [str(source)], "try again")
        os.link(part, target) if _has_links(part) else os.rename(part, target)  # noqa: PTH104
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    return links


def _has_links(path: Path) -> bool:
    """Return whether its file system has hard links: a link never replaces what is there, a rename does."""
    probe = path.with_name(f"{path.name}.probe")
    try:
        os.link(path, probe)
    except OSError:
        return False
    probe.unlink()
    return True


def _collected(
    one: ListedOutput, files: Sequence[tuple[str, RecordedFile]], digests: dict[str, str]
) -> CollectedOutput:
    return CollectedOutput(
        task=one.task,
        attempt=one.attempt,
        name=one.name,
        kind=one.kind,
        value=one.value,
        files=tuple(
            CollectedFile(path=path, source=file.path, bytes=file.bytes, sha256=digests[path])
            for path, file in files
        ),
    )
