"""Rule: nothing is left that says it must be filled in, such as `CHANGE_ME` or `<FILL ME>`. Each finding says what to write.

Templates, converted files and files of colleagues have such words. Called by the loader where a file's text may have one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.merged.files import Merged
from sflow_ctl.format.merged.items import Item, Path

_WORD = lazy_pattern(
    r"\b(?:CHANGE|FILL|REPLACE|EDIT)_?ME\b|(?i:<(?:fill|change|replace|edit|insert|your|todo)\b[^<>\n]*>)"
    r"|^(?:YOUR_[A-Z_]+|TODO|TBD|FIXME|XXX)$"
)
_SEARCHES = {
    "partition": "sinfo -o '%P %G' lists them",
    "account": "sacctmgr show associations user=$USER format=account lists yours",
    "qos": "sacctmgr show qos format=name lists them",
    "reservation": "scontrol show reservation lists them",
}
"""How to find out what a site has."""


def placeholder_findings(merged: Merged) -> Iterator[Finding]:
    """Yield a finding for each placeholder that is left after all overrides."""
    workflow = [] if merged.workflow is None else [("workflow", merged.workflow)]
    own = [("workflow.variables", item) for item in merged.workflow_variables]
    tasks = [("workflow.tasks", item) for item in merged.tasks]
    named = [(section, item) for section, items in merged.sections.items() for item in items]
    for section, item in (*named, *workflow, *own, *tasks):
        for path, text in _texts(item.body, ()):
            word = placeholder_in(
                "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
            )
            if word is not None:
                yield _finding(section, item, path, word, is_whole=word == text.strip())


def placeholder_in(text: str) -> str | None:
    """Return the first placeholder of a text, or None."""
    match = _WORD.search(text)
    return None if match is None else match[0]


def _finding(section: str, item: Item, path: Path, word: str, *, is_whole: bool) -> Finding:
    where = item.where(*path)
    field = where.rpartition("  ")[2]
    what = (
        f"{field} is still to be filled in: it is {word}"
        if is_whole
        else f"{word} in {field} is still to be filled in"
    )
    return Finding("unfilled-placeholder", what, where, _guidance(section, item, path))


def _guidance(section: str, item: Item, path: Path) -> str:
    """Return what to write: what the field means, an example, and how to find out."""
    from sflow_ctl.format.reference.fields import (
        UnknownFieldError,
        describe,
    )  # it reads the source of the schema

    if path[:1] == ("script",):
        return "write the command, the path or the value in its place"
    names = [key for key in path if isinstance(key, str)]
    if section.endswith("variables"):
        about = item.body.get("description") if isinstance(item.body, Mapping) else None
        return str(about or f"write the value of {item.name}, or give it with --set {item.name}=VALUE")
    for length in range(len(names), 0, -1):
        try:
            found = describe(".".join((section, *names[:length])))
        except UnknownFieldError:
            continue
        meaning = found.meaning.partition(". Default")[0].rstrip(".")
        search = f"; {_SEARCHES[names[-1]]}" if names[-1] in _SEARCHES else ""
        return f"{meaning}{search}"
    return "write the value"


def _texts(data: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            if isinstance(key, str):
                yield from _texts(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _texts(value, (*path, index))
