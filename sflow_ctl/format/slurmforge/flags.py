"""Arguments of a program: from a mapping to a command line, as each generation of slurmforge writes them.

The values come from variables, which the task finds in its environment: nothing of them is read by the shell again, and a sweep
changes them without another script.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sflow_ctl.format.python_options import declared_options

Style = Literal["value", "word", "switch", "off_switch", "both", "bare_or_false", "each"]
"""How a value becomes words: `value`: after the flag; `word`: `true` or `false` after it; `switch`: the flag alone if true;
`off_switch`: the flag alone if false; `both`: the flag, or `--no-` and its name; `bare_or_false`: the flag, and `false` after
it if false; `each`: the flag before each member of a list, which no shell quotes."""

VALUE: Style = "value"
WORD: Style = "word"


class Flag(NamedTuple):
    """One argument."""

    flag: str
    variable: str
    """The variable that holds the value."""
    style: Style
    can_be_null: bool = False
    """In some cells of a sweep there is no such argument."""


def command(program: Sequence[str], flags: Sequence[Flag], more: Sequence[str] = ()) -> list[str]:
    """Return the lines that run a program with its arguments; `more` are words that are written as they are."""
    plain = [one for one in flags if one.style in ("value", "word") and not one.can_be_null]
    odd = [one for one in flags if one not in plain]
    words = [f"{shlex.quote(one.flag)} {_value(one)}" for one in plain]
    if not odd:
        return _wrapped([" ".join(program), *words, *more])
    lines = [f"args=({' '.join(words)})"]
    for one in odd:
        lines += _added(one)
    return [*lines, *_wrapped([" ".join(program), '"${args[@]}"', *more])]


def _wrapped(words: Sequence[str]) -> list[str]:
    """Return a command on as many lines as are good to read."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) > 100:
            lines[-1] += " \\"
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}"
    return lines


def _value(one: Flag) -> str:
    return f'"${{{one.variable},,}}"' if one.style == "word" else f'"${one.variable}"'


def _added(one: Flag) -> list[str]:
    flag, variable = shlex.quote(one.flag), one.variable
    if one.style == "each":
        return [f"args+=({flag} ${{{{ {variable} | join(' {one.flag} ') }}}})"]
    if one.style == "switch":
        return [f'[ "${variable}" != True ] || args+=({flag})']
    if one.style == "off_switch":
        return [f'[ "${variable}" != False ] || args+=({flag})']
    if one.style == "both":
        other = shlex.quote(f"--no-{one.flag.lstrip('-')}")
        return [f'if [ "${variable}" = True ]; then args+=({flag}); else args+=({other}); fi']
    if one.style == "bare_or_false":
        return [f'args+=({flag}); [ "${variable}" != False ] || args+=(false)']
    return [f'[ "${variable}" = None ] || args+=({flag} {_value(one)})']


def switches(script: str | None) -> Mapping[str, tuple[str, Style]]:
    """Return the flags of a Python script whose values are not words of their own, by every spelling of their names.

    Only what `add_argument` is given literally is seen.
    """
    found: dict[str, tuple[str, Style]] = {}
    styles: dict[str, Style] = {
        "store_true": "switch",
        "store_false": "off_switch",
        "BooleanOptionalAction": "both",
    }
    for option in declared_options(script or "").options:
        style = styles.get(option.action)
        if style is None:
            continue
        for name in (*option.flags, option.dest):
            core = name.lstrip("-")
            for spelling in (core, core.replace("-", "_"), core.replace("_", "-")):
                found.setdefault(spelling, (option.flags[0], style))
    return found
