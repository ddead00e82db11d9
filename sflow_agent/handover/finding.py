"""Finds the outputs of an attempt that has ended with success. Runs in a thread: file systems may stall."""

import os
import stat
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from protocol.messages.handover import (
    ATTEMPT_MARK,
    GIVEN_VALUES,
    KEPT,
    MAX_VALUE_BYTES,
    PATH_KINDS,
    FileSelection,
    FoundOutput,
    OutputRule,
    RecordedFile,
)
from protocol.text.counted import counted
from protocol.text.listing import listed
from protocol.typed_values import WrongTypeError, typed
from sflow_agent.checkpoints.choosing import SHOWN, ChosenFiles, FoundEntry, Listing, choose, groups_of
from sflow_agent.checkpoints.finding import RefusedError, list_files
from sflow_agent.checkpoints.globs import is_glob
from sflow_agent.checkpoints.steps import numbers_of
from sflow_agent.handover.best import best_by
from sflow_agent.handover.digests import sha256_of_all
from sflow_agent.handover.entries import EntriesError, absent, entries_of
from sflow_agent.handover.keeping import kept, target_of
from sflow_agent.handover.problems import HandoverError
from sflow_agent.handover.reading import documents_in, given_value, given_values, size_of, value_of

_OURS = (".sflow_",)
_RECORDS = frozenset({"outputs.json", "result.json"})

NOTHING: Mapping[str, Any] = MappingProxyType({})


class OutputSearch(NamedTuple):
    """Where an attempt's outputs are looked for, and what counts."""

    directory: str
    """The task's; absolute."""
    number: int
    """Of the attempt."""
    since_ns: int | None = None
    """What has changed before, by the file system's clock, is not of this attempt; None counts all."""
    given: Mapping[str, Any] = NOTHING
    """What its program has put into `GIVEN_VALUES`."""
    items: tuple[int, ...] | None = None
    """The positions of the items that the attempt is for, if it is for several."""
    has_failed: bool = False
    """It has failed: only what is there counts, and nothing has to be."""


class SearchResult(NamedTuple):
    """All outputs of an attempt, or why they cannot be used."""

    outputs: tuple[FoundOutput, ...] = ()
    problem: str = ""
    """A sentence; empty if the task has all that it must have."""
    hint: str = ""
    is_missing: bool = False
    """A required output is not there."""


def find_outputs(
    directory: str,
    rules: Sequence[OutputRule],
    number: int,
    *,
    counts_all: bool,
    items: tuple[int, ...] | None = None,
    has_failed: bool = False,
) -> SearchResult:
    """Return what is found for each rule, in their order; all problems in one text. Raises: OSError.

    With `items`, at these positions, each value is a list with one entry for each of them.
    """
    since_ns = None if counts_all else changed_ns(f"{directory}/{ATTEMPT_MARK}")
    search = OutputSearch(directory, number, since_ns, items=items, has_failed=has_failed)
    outputs: list[FoundOutput] = []
    errors: list[HandoverError] = []
    given_at = changed_ns(f"{directory}/{GIVEN_VALUES}")
    is_stale = since_ns is not None and given_at is not None and given_at < since_ns
    try:
        if any(rule.is_given for rule in rules) and not is_stale:
            search = search._replace(given=given_values(directory))
    except HandoverError as error:
        return SearchResult(problem=str(error), hint=error.hint)
    for rule in rules:
        try:
            outputs.append(_found(rule, search))
        except EntriesError as error:
            outputs.append(error.record)
            errors.append(error)
        except HandoverError as error:
            is_optional = (rule.has_default or not rule.is_required) and not has_failed
            if is_optional and (error.is_missing or error.is_unclear):
                outputs.append(absent(rule, str(error), items))
            else:
                errors.append(error)
        except RefusedError as error:
            errors.append(HandoverError(f"its output {rule.name}: {error}", "name a folder in its `path`"))
    if errors:
        text = "; ".join(map(str, errors))
        hint = next((one.hint for one in errors if one.hint), "")
        left = () if items is None else tuple(outputs)
        return SearchResult(left, problem=text, hint=hint, is_missing=all(one.is_missing for one in errors))
    return SearchResult(tuple(outputs))


def changed_ns(path: str) -> int | None:
    """Return when a file was last changed, by its file system's clock; None for one that is not there.

    The change of its entry counts: a program may give a new file an old time of modification.
    """
    try:
        return os.lstat(path).st_ctime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def _found(rule: OutputRule, search: OutputSearch) -> FoundOutput:
    """Return what is found for a rule. Raises: HandoverError, RefusedError, OSError."""
    if rule.kind == "value":
        return _with_value(rule, search, rule.value, "it is in the file")
    as_read = rule if search.items is None else msgspec.structs.replace(rule, kind="param", type=None)
    if rule.is_given:
        return _with_value(rule, search, given_value(as_read, search.given), "its program has said it")
    if rule.kind == "dir":
        return _directory(rule, search)
    listing, notes = _listing(rule, search)
    if rule.kind in ("files", "manifest"):
        return _several(rule, search, listing, notes)
    chosen = _chosen(rule, search, listing)
    if rule.kind in PATH_KINDS:
        return _one(rule, search, chosen, notes)
    path = f"{search.directory}/{chosen.path}"
    try:
        value = value_of(as_read, path, chosen.path)
    except OSError as error:
        raise HandoverError(
            f"its output {rule.name} cannot be read: {chosen.path}: {error.strerror}"
        ) from error
    return _with_value(rule, search, value, f"it is in {chosen.path}", notes)


# ---------------------------------------------------------------------- what counts


def _listing(rule: OutputRule, search: OutputSearch) -> tuple[Listing, list[str]]:
    """Return the files of a rule that this attempt has written. Raises: HandoverError, RefusedError, OSError."""
    listing = list_files(search.directory, search.directory, rule.selection.globs)
    candidates = [one for one in listing.candidates if not _is_ours(one.path, search)]
    own = [one for one in candidates if rule.takes_stale or _is_new(one, search)]
    notes = list(listing.notes)
    old = [one.path for one in candidates if one not in own]
    if old:
        notes.append(f"{'is' if len(old) == 1 else 'are'} older than the attempt: {listed(old, SHOWN)}")
    exact = [glob for glob in rule.selection.globs if not is_glob(glob)]
    if not own and (rule.kind not in ("files", "manifest") or rule.is_required):
        patterns = listed(list(rule.selection.globs), SHOWN)
        what = f"there is no {patterns}" if exact else f"no file matches {patterns}"
        passed = f"; what {'; '.join(notes)}" if notes else ""
        hint = "`stale: ok` counts older files; " if old else ""
        hint += (
            "give it a `default`, or `required: false`" if rule.kind != "files" else "leave out `required`"
        )
        raise HandoverError(
            f"its output {rule.name} is missing: {what} in {search.directory}{passed}", hint, is_missing=True
        )
    return listing._replace(candidates=tuple(own), notes=()), notes


def _is_ours(path: str, search: OutputSearch) -> bool:
    """Return whether we have written a file: the log, an earlier one, or a record."""
    if path.startswith(_OURS):
        return True
    task = search.directory.rpartition("/")[2]
    return "/" not in path and (path in _RECORDS or (path.startswith(f"{task}.") and path.endswith(".log")))


def _is_new(entry: FoundEntry, search: OutputSearch) -> bool:
    if search.since_ns is None:
        return True
    path = f"{search.directory}/{entry.path}"
    times = [changed_ns(path)]
    if entry.is_directory:
        times += [
            changed_ns(f"{path}/{one.path}") for one in list_files(search.directory, path, ("**",)).candidates
        ]
    return any(time is not None and time >= search.since_ns for time in times)


def _chosen(rule: OutputRule, search: OutputSearch, listing: Listing) -> ChosenFiles:
    """Return the one of several that `select` means. Raises: HandoverError, OSError."""
    selection = rule.selection
    if (
        len(listing.candidates) == 1
        and selection.done_marker is None
        and selection.select in ("latest", "best")
    ):
        return choose_only(listing.candidates[0], selection)
    if selection.select == "best" and rule.best is not None:
        return _best(rule, search, listing)
    chosen = choose(listing, selection)
    if chosen.path:
        return chosen
    if chosen.rule == "ambiguous":
        raise HandoverError(
            f"which file its output {rule.name} is is not clear: {chosen.why}",
            "narrow `path`, or say which with `select`: a path, a pattern, or best",
            is_unclear=True,
        )
    notes = f"; what {'; '.join(chosen.notes)}" if chosen.notes else ""
    raise HandoverError(
        f"its output {rule.name} is missing: {chosen.why.replace('checkpoint', 'such file')} in {search.directory}{notes}",
        "give it a `default`, or `required: false`",
        is_missing=True,
    )


def choose_only(entry: FoundEntry, selection: FileSelection) -> ChosenFiles:
    """Return the only candidate as the choice; an empty file counts, too."""
    number = numbers_of(selection.step_regex)(entry.path)
    step = None if number is None else number.value
    return ChosenFiles("only", "it is the only one", entry.path, step, (entry,))


def _best(rule: OutputRule, search: OutputSearch, listing: Listing) -> ChosenFiles:
    assert rule.best is not None
    number_in = numbers_of(rule.selection.step_regex)
    try:
        best = best_by(
            rule.best, listing.candidates, number_in, lambda path: documents_in(f"{search.directory}/{path}")
        )
    except (ValueError, OSError) as error:
        raise HandoverError(f"its output {rule.name}: {rule.best.path} cannot be read: {error}") from error
    if not best.path:
        raise HandoverError(
            f"which file its output {rule.name} is is not clear: {best.why}",
            'write records such as {"step": 100, "' + rule.best.key + '": 0.5}, or {dir} into `best.path`',
        )
    for group in groups_of(listing.candidates, number_in):
        if any(one.path == best.path for one in group.entries):
            number = None if group.number is None else group.number.value
            path = best.path if len(group.entries) == 1 else group.path
            others = tuple(one.path for one in listing.candidates if one not in group.entries)
            return ChosenFiles("best", best.why, path, number, group.entries, others[:SHOWN], len(others))
    raise AssertionError(f"{best.path} is none of the candidates")


# ---------------------------------------------------------------------- records


def _one(rule: OutputRule, search: OutputSearch, chosen: ChosenFiles, notes: Sequence[str]) -> FoundOutput:
    said = [*notes, *chosen.notes]
    paths = [path for one in chosen.files or () for path in _files_of(one, search)]
    return _record(rule, search, chosen.path, paths, said, chosen.why, chosen.step)


def _several(rule: OutputRule, search: OutputSearch, listing: Listing, notes: list[str]) -> FoundOutput:
    paths = [path for one in listing.candidates for path in _files_of(one, search)]
    record = _record(rule, search, "", paths, notes, f"{counted(len(paths), 'file')} match")
    if rule.kind == "files":
        return record
    target = f"{search.directory}/{KEPT}/{search.number}/{rule.name}.manifest.json"
    document = {
        "schema": "sflow.manifest.v1",
        "output": rule.name,
        "files": [{"path": one.path, "bytes": one.bytes, "sha256": one.sha256} for one in record.files],
    }
    _write(target, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    return msgspec.structs.replace(record, path=target)


def _directory(rule: OutputRule, search: OutputSearch) -> FoundOutput:
    relative = rule.selection.globs[0].strip("/")
    path = f"{search.directory}/{relative}"
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        is_directory = False
    if not is_directory:
        raise HandoverError(
            f"its output {rule.name} is missing: there is no directory {relative} in {search.directory}",
            "give it a `default`, or `required: false`",
            is_missing=True,
        )
    inside = list_files(search.directory, path, ("**", "**/.*"))
    entries = [one._replace(path=f"{relative}/{one.path}") for one in inside.candidates]
    if not rule.takes_stale and entries and not any(_is_new(one, search) for one in entries):
        raise HandoverError(
            f"its output {rule.name} is missing: everything in {relative} is older than the attempt",
            "`stale: ok` counts older files",
            is_missing=True,
        )
    paths = [file for one in entries for file in _files_of(one, search)]
    return _record(rule, search, relative, paths, list(inside.notes), f"it has {counted(len(paths), 'file')}")


def _files_of(entry: FoundEntry, search: OutputSearch) -> list[str]:
    """Return the files that a candidate consists of, relative to the task's directory."""
    if not entry.is_directory:
        return [entry.path]
    inside = list_files(search.directory, f"{search.directory}/{entry.path}", ("**", "**/.*"))
    return [f"{entry.path}/{one.path}" for one in inside.candidates if not one.is_directory]


def _record(
    rule: OutputRule,
    search: OutputSearch,
    path: str,
    paths: Sequence[str],
    notes: list[str],
    why: str,
    step: int | None = None,
) -> FoundOutput:
    """Return the record of these files, which are kept as the rule says. Raises: HandoverError, OSError."""
    if len(paths) > rule.max_files:
        raise HandoverError(
            f"its output {rule.name} has {counted(len(paths), 'file')}, and may have {rule.max_files}",
            "narrow `path`, or raise `max_files`",
        )
    files = sorted(kept(rule, search.directory, paths, search.number, notes), key=lambda one: one.path)
    return FoundOutput(
        name=rule.name,
        kind=rule.kind,
        path=target_of(rule, search.directory, path, search.number) if path else search.directory,
        files=tuple(files),
        count=len(files),
        bytes=sum(one.bytes for one in files),
        sha256=sha256_of_all(search.directory, files),
        step=step,
        why=why,
        notes=tuple(notes),
    )


def _with_value(
    rule: OutputRule, search: OutputSearch, value: Any, why: str, notes: Sequence[str] = ()
) -> FoundOutput:
    """Return the record of a value; a large one is put into a file. Raises: HandoverError, OSError."""
    lacking: tuple[int, ...] = ()
    problem = ""
    try:
        if search.items is None:
            value = typed(value, rule.type)
        else:
            value, lacking, problem = entries_of(rule, value, search.items, has_failed=search.has_failed)
        bytes_ = size_of(value)
    except WrongTypeError as error:
        raise HandoverError(f"its output {rule.name}: {error}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise HandoverError(f"its output {rule.name} cannot be kept: {error}") from None
    record = FoundOutput(
        name=rule.name,
        kind=rule.kind,
        value=value,
        bytes=bytes_,
        why=why,
        notes=tuple(notes),
        lacking=lacking,
    )
    if bytes_ > MAX_VALUE_BYTES:
        record = _in_a_file(rule, search, record)
    if problem:
        raise EntriesError(problem, record)
    return record


def _in_a_file(rule: OutputRule, search: OutputSearch, record: FoundOutput) -> FoundOutput:
    """Return the record of a value that is too large for messages. Raises: OSError."""
    target = f"{search.directory}/{KEPT}/{search.number}/{rule.name}.json"
    _write(target, msgspec.json.encode(record.value))
    file: RecordedFile = kept(
        msgspec.structs.replace(rule, store="in_place", has_digest=True),
        search.directory,
        [target.removeprefix(f"{search.directory}/")],
        search.number,
        [],
    )[0]
    return msgspec.structs.replace(
        record, value=None, path=target, files=(file,), count=1, sha256=file.sha256, is_large=True
    )


def _write(path: str, content: bytes) -> None:
    """Write a file of our own as a whole. Raises: OSError."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)  # noqa: PTH103, PTH120
    part = f"{path}.part"
    with open(part, "wb") as file:  # noqa: PTH123
        file.write(content)
    os.rename(part, path)  # noqa: PTH104
