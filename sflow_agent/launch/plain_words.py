"""Says which scripts are one plain command for bash, and which environment bash would give its program. Pure.

Whatever is in doubt is left to bash, which is always right. The test of direct starts compares both ways.
"""

from collections.abc import Mapping

MAX_CHARACTERS = 4096
"""Longer scripts are hardly ever one command."""
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_IN_WORDS = frozenset(f"{_LETTERS}_./,:@%+=-")
"""Characters that mean nothing to bash inside an argument. `~`, `#`, `!`, `^` do, and beyond ASCII there are more blanks."""
_SEPARATED = _IN_WORDS | {" ", "\t"}
_IN_PROGRAMS = frozenset(f"{_LETTERS}_./+-")
"""Characters of the first word: without the `=` of assignments and the `%` of jobs."""
_OPTIONS = "+-"
"""A script that begins so is an option of bash."""
_OF_LANGUAGE = """
    . : [ alias bg bind break builtin caller cd command compgen complete compopt continue declare dirs disown echo enable
    eval exec exit export false fc fg getopts hash help history jobs kill let local logout mapfile popd printf pushd pwd
    read readarray readonly return set shift shopt source suspend test times trap true type typeset ulimit umask unalias
    unset wait
    if then else elif fi case esac for select while until do done in function time { } ! [[ ]] coproc
"""
_BASH_WORDS = frozenset(_OF_LANGUAGE.split())
"""Builtin commands and reserved words. Source: `compgen -b` and `compgen -k` of bash 5.3."""
NO_OPERATION = {"true": "/bin/true", "false": "/bin/false"}
"""Builtin commands, alone, and programs that do the same; by path, since PATH may lead to other ones."""
_OBEYED = """
    CHILD_MAX COLUMNS COMPREPLY COMP_CWORD COMP_KEY COMP_LINE COMP_POINT COMP_TYPE COMP_WORDBREAKS COMP_WORDS COPROC
    DIRSTACK ENV EPOCHREALTIME EPOCHSECONDS EUID EXECIGNORE FUNCNAME FUNCNEST GROUPS HISTCMD IFS LINENO LINES MAPFILE
    OPTARG OPTERR OPTIND PIPESTATUS PS4 POSIXLY_CORRECT POSIX_PEDANTIC PPID RANDOM READLINE_ARGUMENT READLINE_LINE
    READLINE_MARK READLINE_POINT REPLY SECONDS SHELLOPTS SRANDOM TMOUT UID
"""
_OF_BASH = frozenset(_OBEYED.split())
"""Variables that bash obeys at its start or changes, besides BASH*. Source: bash(1), "Shell Variables"."""
_NOT_PASSED_ON = ("PS1", "PS2")
"""bash removes them where it is not interactive."""
_QUIET_LOCALES = frozenset(("", "C", "POSIX"))
"""Values of LC_ALL that no bash warns of; others may not be installed."""
_LEVEL_DIGITS = 3
"""bash warns, and begins anew, at a level of 1000; a nested one of these has fewer digits."""


def plain_words(script: str) -> tuple[str, ...] | None:
    """Return the words of a script that is one simple command of plain words, if bash has no command of its own for the first."""
    if len(script) > MAX_CHARACTERS:
        return None
    line = script.removesuffix("\n")
    if not _SEPARATED.issuperset(line):
        return None
    words = tuple(line.split())
    if not words or words[0][0] in _OPTIONS or not _IN_PROGRAMS.issuperset(words[0]):
        return None
    if words[0] in _BASH_WORDS:
        return words if len(words) == 1 and words[0] in NO_OPERATION else None
    return words


def is_obeyed(environment: Mapping[str, str]) -> bool:
    """Return whether bash does something about a variable there that only bash can do: run a file, warn, set an option."""
    return (
        not _OF_BASH.isdisjoint(environment)
        or "\nBASH" in "\n".join(("", *environment))
        or environment.get("LC_ALL", "") not in _QUIET_LOCALES
    )


def passed_on(environment: Mapping[str, str], own: Mapping[str, str | None]) -> dict[str, str] | None:
    """Return the environment with which bash would execute a program; None if only bash can tell.

    `own` are variables that bash sets to other values than those that it inherits, None for those that it removes.
    """
    level = environment.get("SHLVL", "0")
    if not (
        level.isdecimal() and level.isascii() and len(level) < _LEVEL_DIGITS and str(int(level)) == level
    ):
        return None
    changed = {**environment, "SHLVL": level}
    for name, value in own.items():
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
    for name in _NOT_PASSED_ON:
        changed.pop(name, None)
    return changed
