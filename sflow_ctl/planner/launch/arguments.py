"""Options that files and the command line add to the programs that start things: `extra_args`.

Splits entries into words, and lets the options of one source replace those of another. Called for containers, and for
the requests of Slurm jobs.
"""

import shlex
from collections.abc import Iterable, Sequence

REPEATABLE = frozenset(
    {
        "-v", "--volume", "--mount", "-p", "--publish", "--device", "--add-host", "--cap-add", "--cap-drop",
        "--security-opt", "--tmpfs", "--group-add", "--dns", "--env-file", "--label-file", "--volumes-from", "--expose",
        "--network-alias", "--link",
    }
)  # fmt: skip
"""Options of `docker run` whose further uses add to earlier ones, whatever their values. Those with NAME=VALUE need no entry."""
_SHORT = {"-e": "--env", "-l": "--label"}
"""Short names of options whose values are NAME=VALUE."""


def split_arguments(entries: Iterable[object]) -> tuple[str, ...]:
    """Return the words of entries, each split as a shell would; one with an open quote stays a word.

    Source: sflow 0.3.1, measured.
    """
    words: list[str] = []
    for entry in entries:
        try:
            words += shlex.split(str(entry))
        except ValueError:
            words += [str(entry).strip()]
    return tuple(words)


def replaced_arguments(general: Sequence[str], specific: Sequence[str]) -> tuple[str, ...]:
    """Return the words of both; options of `general` that `specific` has too are left out.

    Options are the same if their text before the last `=` is: `--env=A=1` does not replace `--env=B=2`.
    """
    return (*without_replaced(general, specific), *specific)


def without_replaced(general: Sequence[str], specific: Sequence[str]) -> tuple[str, ...]:
    """Return the words of `general` that `replaced_arguments` keeps."""
    keys = {_key(option) for option in _options(specific)} - {None}
    return tuple(word for option in _options(general) if _key(option) not in keys for word in option)


def _options(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each option with the words that follow it, which are its value; words before the first one are by themselves."""
    found: list[tuple[str, ...]] = []
    for word in words:
        if word.startswith("-") or not found or not found[-1][0].startswith("-"):
            found.append((word,))
        else:
            found[-1] = (*found[-1], word)
    return found


def _key(option: tuple[str, ...]) -> str | None:
    """Return the name by which an option replaces another; None for one that replaces none."""
    name, _, value = option[0].partition("=")
    value = value or (option[1] if len(option) > 1 else "")
    if not name.startswith("-") or name in REPEATABLE:
        return None
    name = _SHORT.get(name, name)
    inner, separator, _ = value.rpartition("=")
    return f"{name}={inner}" if separator else name
