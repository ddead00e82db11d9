"""Chooses one of the files that a task has written. Pure: `finding` has listed them.

Where two could be meant, none is chosen: a run that continues from the wrong file is worse than one that waits for a word.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from protocol.messages.handover import ChoiceRule, FileSelection
from protocol.text.counted import counted
from protocol.text.listing import listed
from sflow_agent.checkpoints.globs import glob_regex, is_glob
from sflow_agent.checkpoints.steps import Number, NumberIn, numbers_of

SHOWN = 8
"""Candidates that a choice names."""


class FoundEntry(NamedTuple):
    """A file, or a directory that a pattern means."""

    path: str
    """Relative to the directory that was searched."""
    bytes: int
    """Of a directory, of all files in it."""
    mtime_ns: int
    is_directory: bool = False


class Listing(NamedTuple):
    """What is in a directory, as far as it can matter."""

    candidates: tuple[FoundEntry, ...]
    """What the patterns mean, without links that lead to another one of them."""
    names: frozenset[str]
    """All files below the directory, for markers."""
    notes: tuple[str, ...] = ()
    """What was passed over, and why."""


class ChosenFiles(NamedTuple):
    """One of the files, several that belong together, or why there is none."""

    rule: ChoiceRule
    why: str
    path: str = ""
    """Relative; of several files their directory."""
    step: int | None = None
    files: tuple[FoundEntry, ...] = ()
    """What it consists of."""
    others: tuple[str, ...] = ()
    other_count: int = 0
    notes: tuple[str, ...] = ()


class FileGroup(NamedTuple):
    """Files of one step in one place: one checkpoint."""

    path: str
    entries: tuple[FoundEntry, ...]
    number: Number | None
    is_mixed: bool = False
    """They are beside those of other steps, and not all of one kind: which of them is meant is not known."""

    @property
    def shown(self) -> str:
        """The path for people."""
        number = self.number
        if len(self.entries) > 1 and number is not None and number.depth == self.entries[0].path.count("/"):
            return (
                f"{counted(len(self.entries), 'file')} of {number.kind} {number.value} in {self.path or '.'}"
            )
        return self.path


def choose(listing: Listing, selection: FileSelection, newer_than_ns: int | None = None) -> ChosenFiles:
    """Return the candidate that the selection means. Those not modified after `newer_than_ns` do not count.

    Raises: re.error.
    """
    number_in = numbers_of(selection.step_regex)
    notes = list(listing.notes)
    entries = list(listing.candidates)
    if newer_than_ns is not None:
        entries = [one for one in entries if one.mtime_ns > newer_than_ns]
    entries = _whole(entries, listing.names, selection, number_in, notes)
    if selection.select not in ("latest", "best"):
        return _given(entries, selection.select, number_in, notes)
    if selection.select == "best":
        best = [one for one in entries if "best" in one.path.lower()]
        if best:
            chosen = _latest(best, number_in, notes)
            if chosen.path:
                others = _others(entries, chosen.files)
                why = (
                    "its name has the word best"
                    if len(best) == 1
                    else f"its name has the word best, and it has {_said(chosen)}"
                )
                return chosen._replace(rule="best", why=why, others=others[:SHOWN], other_count=len(others))
            return chosen
        if entries:
            notes.append("no name has the word best: the latest one is taken")
    return _latest(entries, number_in, notes)


def _said(chosen: ChosenFiles) -> str:
    return chosen.why.removeprefix("it has ")


def _whole(
    entries: Sequence[FoundEntry],
    names: frozenset[str],
    selection: FileSelection,
    number_in: NumberIn,
    notes: list[str],
) -> list[FoundEntry]:
    """Return the candidates that are complete, as far as can be known; say which are not."""
    marker = selection.done_marker
    if marker is None:
        empty = [one.path for one in entries if not one.bytes]
        if empty:
            notes.append(f"{'is' if len(empty) == 1 else 'are'} empty: {listed(empty, SHOWN)}")
        return [one for one in entries if one.bytes]
    # The marker of one may look like another one.
    markers = {marker_of(marker, path) for one in entries for path in (one.path, _numbered(one, number_in))}
    found = [one for one in entries if one.path not in markers]
    whole = [
        one
        for one in found
        if marker_of(marker, one.path) in names or marker_of(marker, _numbered(one, number_in)) in names
    ]
    kept = set(whole)
    left = [one.path for one in found if one not in kept]
    if left:
        notes.append(f"{'has' if len(left) == 1 else 'have'} no done marker: {listed(left, SHOWN)}")
    return whole


def marker_of(template: str, path: str) -> str:
    """Return the path of the marker that says that a file or directory is complete, relative as the path itself."""
    folder = _parent(path)
    name = path.rpartition("/")[2]
    marker = template.replace("{path}", path).replace("{dir}", folder or ".").replace("{name}", name)
    parts: list[str] = []
    for part in marker.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    return "/".join(parts)


def _numbered(entry: FoundEntry, number_in: NumberIn) -> str:
    """Return the folder of a file that has its number, else its own path."""
    number = number_in(entry.path)
    parts = entry.path.split("/")
    return entry.path if number is None else "/".join(parts[: number.depth + 1])


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


# ---------------------------------------------------------------------- one of several


def _given(entries: Sequence[FoundEntry], select: str, number_in: NumberIn, notes: list[str]) -> ChosenFiles:
    """Return what a path or pattern means."""
    regex = glob_regex(select)
    wanted = [one for one in entries if regex.fullmatch(one.path)]
    if not is_glob(select):
        inside = [one for one in entries if one.path.startswith(f"{select.rstrip('/')}/")]
        wanted = wanted or inside
        if not wanted:
            return ChosenFiles("none", f"there is no {select}", notes=tuple(notes))
        others = _others(entries, wanted)
        return ChosenFiles(
            "path",
            f"`select` names {select}",
            select.rstrip("/"),
            None if (number := number_in(select)) is None else number.value,
            tuple(wanted),
            others[:SHOWN],
            len(others),
            tuple(notes),
        )
    chosen = _latest(wanted, number_in, notes)
    return chosen if wanted else chosen._replace(why=f"no file matches {select}")


def _latest(entries: Sequence[FoundEntry], number_in: NumberIn, notes: list[str]) -> ChosenFiles:
    """Return the candidate of the highest step, else of the highest epoch, else the only one."""
    if not entries:
        return ChosenFiles("none", "there is no checkpoint", notes=tuple(notes))
    groups = groups_of(entries, number_in)
    for kind in ("step", "epoch"):
        numbered = [one for one in groups if one.number is not None and one.number.kind == kind]
        if not numbered:
            continue
        rest = [one.shown for one in groups if one not in numbered]
        if rest:
            are = "has" if len(rest) == 1 else "have"
            notes.append(f"{are} no {kind} and {are} not been looked at: {listed(rest, SHOWN)}")
        highest = max(one.number.value for one in numbered if one.number is not None)
        best = [one for one in numbered if one.number is not None and one.number.value == highest]
        if len(best) > 1 or best[0].is_mixed:
            return _ambiguous(best, f"of {kind} {highest}", notes)
        others = [one.shown for one in numbered if one is not best[0]]
        why = f"it has the highest {kind}" if others else f"it is the only one with {_article(kind)}"
        return ChosenFiles(
            kind, why, best[0].path, highest, best[0].entries, (*others[:SHOWN],), len(others), tuple(notes)
        )
    if len(groups) > 1:
        return _ambiguous(groups, "without a step in their names", notes)
    return ChosenFiles(
        "only", "it is the only one", groups[0].path, None, groups[0].entries, notes=tuple(notes)
    )


def _article(kind: str) -> str:
    return "an epoch" if kind == "epoch" else f"a {kind}"


def _ambiguous(groups: Sequence[FileGroup], what: str, notes: Sequence[str]) -> ChosenFiles:
    paths = [entry.path for one in groups for entry in one.entries] if len(groups) == 1 else []
    paths = paths or [one.shown for one in groups]
    why = f"{len(paths)} candidates {what}: {listed(paths, SHOWN)}"
    return ChosenFiles("ambiguous", why, others=(*paths[:SHOWN],), other_count=len(paths), notes=tuple(notes))


def _others(entries: Iterable[FoundEntry], chosen: Sequence[FoundEntry]) -> tuple[str, ...]:
    return tuple(one.path for one in entries if one not in chosen)


def groups_of(entries: Sequence[FoundEntry], number_in: NumberIn) -> list[FileGroup]:
    """Return the candidates, those that belong together as one: files of a numbered folder, or of one step in a folder."""
    found: dict[tuple[str, int | None], list[tuple[FoundEntry, Number | None]]] = {}
    for entry in entries:
        number = number_in(entry.path)
        parts = entry.path.split("/")
        if number is None:
            place: tuple[str, int | None] = (entry.path, None)
        elif number.depth < len(parts) - 1:
            place = ("/".join(parts[: number.depth + 1]), None)
        else:
            place = (_parent(entry.path), number.value)
        found.setdefault(place, []).append((entry, number))
    return [_group(place, members) for place, members in found.items()]


def _group(place: tuple[str, int | None], members: Sequence[tuple[FoundEntry, Number | None]]) -> FileGroup:
    entries, number = tuple(one for one, _ in members), members[0][1]
    if len(entries) == 1:
        return FileGroup(entries[0].path, entries, number)
    if place[1] is None:
        return FileGroup(place[0], entries, number)
    kinds: Mapping[str, None] = dict.fromkeys(one.path.rpartition(".")[2] for one in entries)
    return FileGroup(place[0], entries, number, is_mixed=len(kinds) > 1)
