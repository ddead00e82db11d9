"""Looks into a task's directory for the checkpoint that an attempt continues from. Runs in a thread: file systems may stall."""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from protocol.messages.handover import (
    CheckpointBase,
    CheckpointChoice,
    CheckpointRules,
    FileSelection,
    RecordedFile,
)
from protocol.text.counted import counted
from protocol.text.listing import listed
from sflow_agent.checkpoints.choosing import SHOWN, ChosenFiles, FoundEntry, Listing, choose, marker_of
from sflow_agent.checkpoints.globs import glob_regex
from sflow_agent.checkpoints.steps import numbers_of

MOST_ENTRIES = 200_000
"""Files and folders below one directory; more cannot be checkpoints alone."""
POINTER_BYTES = 64 * 1024
FRESH_S = 5.0
"""A file that was modified so shortly before may still be growing: what has written it may live on another node."""
LOOKS_AGAIN_AFTER_S = 0.2
_HALF_WRITTEN = (".tmp", ".temp", ".part", ".partial", "~")
"""Ends of the names of files that are renamed once they are whole."""


class RefusedError(Exception):
    """Nothing may be chosen; the text says why, as a sentence."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


def find_checkpoint(root: str, rules: CheckpointRules, base: CheckpointBase | None) -> CheckpointChoice:
    """Return what an attempt continues from. `root` is the task's directory; nothing outside of it counts.

    What stands in the way is the `problem` of the choice, never an exception, but OSError for a directory that cannot be read.
    """
    try:
        return _found(root, rules, base)
    except RefusedError as error:
        return CheckpointChoice(rule="none", why=str(error), problem=str(error), hint=error.hint)


def _found(root: str, rules: CheckpointRules, base: CheckpointBase | None) -> CheckpointChoice:
    directory = os.path.normpath(f"{root}/{rules.directory}")
    listing = list_files(root, directory, _globs(rules.selection), rules.state_file)
    newest_ns = max((one.mtime_ns for one in listing.candidates), default=0)
    if base is not None and base.ignored_until_ns is None:
        choice = _begin_from(
            base.start or rules.start, root, directory, "it is the start that was given", rules
        )
        pointer_ns = _mtime_ns(f"{directory}/{rules.state_file}") if rules.state_file else 0
        return msgspec.structs.replace(choice, newest_ns=max(newest_ns, pointer_ns))
    ignored_until_ns = None if base is None else base.ignored_until_ns
    chosen = _by_pointer(directory, rules, ignored_until_ns)
    if chosen is None:
        chosen = _settled(directory, listing, rules.selection, ignored_until_ns)
    start = rules.start if base is None or base.start is None else base.start
    if chosen.rule == "none" and start is not None:
        found = _begin_from(start, root, directory, "there is no checkpoint of its own yet", rules)
        return msgspec.structs.replace(found, notes=chosen.notes)
    return _choice(chosen, directory, rules, newest_ns)


def files_of(root: str, rules: CheckpointRules, choice: CheckpointChoice) -> tuple[RecordedFile, ...]:
    """Return the files of a chosen checkpoint with what says that it is one: its marker, and the program's pointer.

    None of one that is outside of the task's directory. Raises: OSError.
    """
    directory = os.path.normpath(f"{root}/{rules.directory}")
    if not _is_below(choice.path, root):
        return ()
    paths = [choice.path]
    if os.path.isdir(choice.path):  # noqa: PTH112 - text, as everywhere here
        paths = [f"{choice.path}/{inner}" for inner, is_folder in _below(choice.path) if not is_folder]
    if (marker := rules.selection.done_marker) is not None:
        relative = [os.path.relpath(path, directory) for path in (choice.path, *paths)]
        paths += [f"{directory}/{marker_of(marker, path)}" for path in relative]
    if rules.state_file is not None and choice.rule == "state_file":
        paths.append(f"{directory}/{rules.state_file}")
    files: dict[str, RecordedFile] = {}
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            continue  # a marker inside of the checkpoint's directory, or a link that leads nowhere
        if stat.S_ISREG(status.st_mode):
            files[path] = RecordedFile(path=path, bytes=status.st_size, mtime_ns=status.st_mtime_ns)
    return tuple(files.values())


def _choice(chosen: ChosenFiles, directory: str, rules: CheckpointRules, newest_ns: int) -> CheckpointChoice:
    why, problem, hint = chosen.why, "", ""
    if chosen.rule == "ambiguous":
        problem = (
            ""
            if rules.starts_anew_if_ambiguous
            else f"which checkpoint it continues from is not clear: {why}"
        )
        hint = "narrow `globs`, or say which: sflow-ctl rerun RUN TASK --checkpoint PATH"
    elif chosen.rule == "none" and rules.must_exist:
        problem = f"it has no checkpoint to continue from: {why} in {directory}"
        hint = "`resume: auto` lets it begin anew; sflow-ctl rerun RUN TASK --checkpoint PATH names one"
    return CheckpointChoice(
        rule=chosen.rule,
        why=why,
        path=os.path.normpath(f"{directory}/{chosen.path}") if chosen.files else "",
        step=chosen.step,
        others=chosen.others,
        other_count=chosen.other_count,
        notes=chosen.notes,
        problem=problem,
        hint=hint if problem else "",
        newest_ns=newest_ns,
    )


def _begin_from(
    start: str | None, root: str, directory: str, why: str, rules: CheckpointRules
) -> CheckpointChoice:
    """Return the given path as the choice. Raises: RefusedError if it is not there."""
    if start is None:
        return CheckpointChoice(rule="ignored", why="a fresh start was asked for: --fresh")
    path = start if start.startswith("/") else _inside(root, directory, start)
    try:
        os.stat(path)  # noqa: PTH116 - text, as everywhere here
    except (FileNotFoundError, NotADirectoryError):
        raise RefusedError(
            f"the checkpoint that it begins from does not exist: {path}",
            "name a file or directory that its node sees",
        ) from None
    number = numbers_of(rules.selection.step_regex)(path.lstrip("/"))
    return CheckpointChoice(rule="start", why=why, path=path, step=None if number is None else number.value)


# ---------------------------------------------------------------------- the program's pointer


def _by_pointer(directory: str, rules: CheckpointRules, ignored_until_ns: int | None) -> ChosenFiles | None:
    """Return what the program's own pointer says; None without one. Raises: RefusedError."""
    if rules.state_file is None:
        return None
    path = f"{directory}/{rules.state_file}"
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            written_ns = os.fstat(file.fileno()).st_mtime_ns
            content = file.read(POINTER_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if ignored_until_ns is not None and written_ns <= ignored_until_ns:
        return None
    target, step = _pointed_to(path, content)
    if target is None:
        return ChosenFiles("none", f"{rules.state_file} says that there is no checkpoint")
    absolute = _inside(os.path.realpath(directory), os.path.realpath(directory), target, f"{path} points to")
    entry = _entry(absolute, os.path.normpath(target))
    if entry is None or not entry.bytes:
        what = "which does not exist" if entry is None else "which is empty"
        raise RefusedError(
            f"{path} points to {target}, {what}",
            "correct or delete that file; it is the program's own word on what to load",
        )
    if step is None:
        number = numbers_of(rules.selection.step_regex)(entry.path)
        step = None if number is None else number.value
    return ChosenFiles("state_file", f"{rules.state_file} points to it", entry.path, step, (entry,))


def _pointed_to(path: str, content: bytes) -> tuple[str | None, int | None]:
    """Return the path in a pointer, and the step if it has one. Raises: RefusedError."""
    hint = 'it holds {"checkpoint": "PATH", "step": N}, or just the path; write it to another name first, and rename it'
    if len(content) > POINTER_BYTES:
        raise RefusedError(
            f"{path} is larger than {POINTER_BYTES >> 10} KiB: a pointer to a checkpoint is short", hint
        )
    text = content.decode(errors="replace").strip()
    if not text.startswith(("{", '"')):
        if not text or "\n" in text or not text.isprintable():
            raise RefusedError(f"{path} does not say which checkpoint is meant", hint)
        return text, None
    try:
        data: Any = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(f"{path} cannot be read as JSON: {error}", hint) from None
    if isinstance(data, str):
        return data, None
    target, step = data.get("checkpoint", 0), data.get("step")
    if target is None:
        return None, None
    if not isinstance(target, str) or not target or (step is not None and type(step) is not int):
        raise RefusedError(f"{path} does not say which checkpoint is meant", hint)
    return target, step


def _inside(root: str, directory: str, path: str, what: str = "the checkpoint is") -> str:
    """Return the absolute path of a relative one, whose links lead nowhere else. Raises: RefusedError."""
    absolute = os.path.normpath(path if path.startswith("/") else f"{directory}/{path}")
    if not _is_below(os.path.realpath(absolute), os.path.realpath(root)):
        raise RefusedError(f"{what} {path}, which is outside of {root}")
    return absolute


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


# ---------------------------------------------------------------------- what is there


def _settled(
    directory: str, listing: Listing, selection: FileSelection, ignored_until_ns: int | None
) -> ChosenFiles:
    """Return the choice among files that do not grow any more."""
    growing: list[str] = []
    while True:
        chosen = choose(listing, selection, ignored_until_ns)
        newest_ns = max((one.mtime_ns for one in chosen.files), default=0)
        if not chosen.files or time.time_ns() - newest_ns > FRESH_S * 1e9:
            break
        time.sleep(LOOKS_AGAIN_AFTER_S)
        now = {
            one.path: one
            for one in (_entry(f"{directory}/{one.path}", one.path) for one in chosen.files)
            if one
        }
        changed = {one.path for one in chosen.files if now.get(one.path) != one}
        if not changed:
            break
        growing += sorted(changed)
        left = tuple(one for one in listing.candidates if one.path not in changed)
        listing = listing._replace(candidates=left)
    if growing:
        are = "is" if len(growing) == 1 else "are"
        chosen = chosen._replace(
            notes=(*chosen.notes, f"{are} still being written: {listed(growing, SHOWN)}")
        )
    return chosen


def _globs(selection: FileSelection) -> tuple[str, ...]:
    """Return the patterns of all candidates: a path that is named counts, whether they mean it or not."""
    is_named = selection.select not in ("latest", "best")
    return (*selection.globs, selection.select) if is_named else selection.globs


def list_files(root: str, directory: str, globs: Sequence[str], but: str | None = None) -> Listing:
    """Return what the patterns mean below a directory, which may be missing; without the file `but`, and half-written ones.

    Raises: OSError, RefusedError.
    """
    real = os.path.realpath(directory)
    if not _is_below(real, os.path.realpath(root)):
        raise RefusedError(
            f"{directory} leads out of the task's directory: to {real}",
            "write checkpoints in the task's directory, which no other task uses; --output-dir puts runs elsewhere",
        )
    regexes = [glob_regex(glob) for glob in globs]
    files: list[str] = []
    folders: list[str] = []
    for path, is_folder in _below(directory):
        if len(files) + len(folders) >= MOST_ENTRIES:
            raise RefusedError(
                f"{directory} has more than {counted(MOST_ENTRIES, 'file')}",
                "name a directory of checkpoints alone: `dir`",
            )
        (folders if is_folder else files).append(path)
    matched = [
        path
        for path in files
        if path != but and not path.endswith(_HALF_WRITTEN) and any(one.fullmatch(path) for one in regexes)
    ]
    parents = {parent for path in matched for parent in _parents(path)}
    whole = [path for path in folders if path not in parents and any(one.fullmatch(path) for one in regexes)]
    within = {parent for path in whole for parent in _parents(path)}
    notes: list[str] = []
    entries = [
        entry
        for path in _without_links(
            directory, real, [*matched, *(one for one in whole if one not in within)], notes
        )
        if (entry := _entry(f"{directory}/{path}", path)) is not None
    ]
    return Listing(tuple(sorted(entries)), frozenset(files), tuple(notes))


def _below(directory: str) -> Iterator[tuple[str, bool]]:
    """Yield (relative path, whether it is a folder) of all that is there. Links are not followed. Raises: OSError."""
    stack = [""]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(f"{directory}/{folder}") as entries:
                found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            if folder:
                continue
            raise RefusedError(f"{directory} is not a directory") from None
        for name, is_folder in found:
            path = f"{folder}/{name}" if folder else name
            yield path, is_folder
            if is_folder:
                stack.append(path)


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _without_links(directory: str, real: str, paths: Sequence[str], notes: list[str]) -> Iterator[str]:
    """Yield the paths without links to others of them, and without those that lead out of the directory."""
    known, outside = {".", *paths}, []
    known |= {parent for path in paths for parent in _parents(path)}
    for path in paths:
        whole = f"{directory}/{path}"
        if not os.path.islink(whole):  # noqa: PTH114
            yield path
            continue
        target = os.path.realpath(whole)
        if not _is_below(target, real):
            outside.append(path)
        elif os.path.relpath(target, real) not in known:
            yield path
    if outside:
        are = "leads" if len(outside) == 1 else "lead"
        notes.append(f"{are} out of the directory: {listed(outside, SHOWN)}")


def _entry(path: str, relative: str) -> FoundEntry | None:
    """Return what is known of a file or directory; None if it is not there, or neither. Raises: OSError."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(status.st_mode):
        return FoundEntry(relative, status.st_size, status.st_mtime_ns)
    if not stat.S_ISDIR(status.st_mode):
        return None
    size, newest_ns = 0, status.st_mtime_ns
    for inner, is_folder in _below(path):
        if is_folder:
            continue
        try:
            one = os.lstat(f"{path}/{inner}")
        except FileNotFoundError:
            continue
        if stat.S_ISREG(one.st_mode):
            size, newest_ns = size + one.st_size, max(newest_ns, one.st_mtime_ns)
    return FoundEntry(relative, size, newest_ns, is_directory=True)


def _mtime_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0
