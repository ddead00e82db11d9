"""What the format says of one field, for `schema KEY.PATH` and `explain KEY.PATH`: takes, default, meaning, example."""

from collections.abc import Sequence

from sflow_ctl.format.merged.files import ROOT_KEYS

_WIDTH = 9


def is_field_path(word: str) -> bool:
    """Return whether a word is the path of a field, `workflow.tasks.probes`: it has a dot and begins as a file does."""
    first, dot, rest = word.partition(".")
    return bool(dot and rest) and first in (*ROOT_KEYS, "tasks")


def is_section(words: Sequence[str]) -> bool:
    """Return whether the one word is the name of a section of a file, which may also be that of a run or task."""
    return len(words) == 1 and words[0] in ROOT_KEYS


def field_text(path: str) -> str:
    """Return the lines about a field. Raises: UsageError for a path that leads nowhere."""
    from protocol.errors import UsageError
    from sflow_ctl.format.reference.fields import UnknownFieldError, describe

    try:
        found = describe(path)
    except UnknownFieldError as error:
        hint = f'did you mean "{error.guess}"?' if error.guess else f"there is {', '.join(error.known)}"
        raise UsageError.of("unknown-key", str(error), hint=hint if error.known else None) from error
    facts = [("takes", found.takes.replace("`", "").replace("[", "").replace("]", ""))]
    if found.default:
        facts.append(("default", found.default) if found.default != "required" else ("", "required"))
    facts.append(("meaning", found.meaning.replace("`", "")))
    if found.example:
        facts.append(("example", found.example))
    if found.fields:
        facts.append(("fields", ", ".join(found.fields)))
    return "\n".join([path, *(f"  {what:<{_WIDTH}}{text}" for what, text in facts)])
