"""Finds the program of a script that is one plain command, so that it is started without bash. Called by `processes.spawn`.

It looks at no directory that has not answered a thread lately: bash would wait for that one in a process of its own, which delays
nothing but its task. Then, and whenever something is in doubt, the answer is None, and bash is started.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from functools import partial

from msgspec import Struct

from sflow_agent.launch.plain_words import NO_OPERATION, is_obeyed, passed_on, plain_words
from sflow_agent.worker import Lane, Workers

ANSWERS_FOR_S = 2.0
ASKED_AGAIN_AFTER_S = 1.0
"""A directory that is used all the time is asked again while its last answer counts."""
MAX_REMEMBERED = 1000
"""Scripts whose words are kept. A run has few, or each has its own."""
MAX_ASKED = 16
"""Lists of directories that are asked at the same time. A list that a thread cannot get through has its tasks start by bash."""
_DIRECTORIES = ("PWD", "OLDPWD", "HOME")
_SYSTEM = ("/bin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin")
"""Where nothing runs any more if it does not answer."""


class DirectCommand(Struct, frozen=True):
    """What `bash -c SCRIPT` would replace itself by."""

    program: str
    argv: tuple[str, ...]
    environment: dict[str, str]


class DirectCommands:
    """Judges scripts. `environment` is the one that all ranks inherit, and `home` the directory in which they are started."""

    def __init__(self, workers: Workers, environment: Mapping[str, str], home: str) -> None:
        self._workers = workers
        self._lane = Lane("programs", threads=8, queued=1000)
        self._words: dict[str, tuple[str, ...] | None] = {}
        self._paths: dict[str, tuple[str, ...] | None] = {}
        self._answered: dict[str, float] = {}
        """Until when the answer of a directory counts."""
        self._asked: set[tuple[str, ...]] = set()
        """Lists of directories that a thread asks now."""
        self._home = home
        self._inherited = {name: environment.get(name) for name in _DIRECTORIES}
        is_plain = self._inherited["PWD"] == home and self._inherited["OLDPWD"] is None
        self._variables: dict[str, str | None] | None = {"PWD": home, "OLDPWD": None} if is_plain else None
        """What bash makes of the variables about directories; None while that is not known."""
        if not is_plain:  # at once: the first task is started by bash if that is not known by then
            workers.run("a shell's directories", self._examine, self._note_variables, self._lane)

    def command(self, argv: tuple[str, ...], environment: Mapping[str, str]) -> DirectCommand | None:
        """Return what to start in place of `argv` in the agent's directory; None if it must be `argv`."""
        if len(argv) != 3 or argv[1] != "-c" or argv[0] != "bash":
            return None
        words = self._words_of(argv[2])
        if words is None or is_obeyed(environment):
            return None
        variables = self._directories_for(environment)
        if variables is None:
            return None
        program = self._find(words[0], environment.get("PATH", ""))
        if program is None:
            return None
        changed = passed_on(environment, {**variables, "_": program})
        return None if changed is None else DirectCommand(program, words, changed)

    def _words_of(self, script: str) -> tuple[str, ...] | None:
        try:
            return self._words[script]
        except KeyError:
            if len(self._words) >= MAX_REMEMBERED:
                self._words.clear()
            words = self._words[script] = plain_words(script)
            return words

    # ------------------------------------------------------------------ the program

    def _find(self, word: str, path: str) -> str | None:
        """Return a program's path as bash finds it; None if there is none, or not all directories have answered lately."""
        if word in NO_OPERATION:
            return NO_OPERATION[word]
        if "/" in word:
            folder = word.rpartition("/")[0] or "/"
            folder = folder if folder[0] == "/" else f"{self._home}/{folder}"
            return word if self._have_answered((folder,)) else None
        directories = self._directories_of(path)
        if directories is None or not self._have_answered(directories):
            return None
        for directory in directories:
            candidate = f"{directory}/{word}"
            if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112 - hot path
                return candidate
        return None

    def _directories_of(self, path: str) -> tuple[str, ...] | None:
        """Return the elements of a PATH; None if it has some for which bash has rules of its own: empty, relative, `~`."""
        try:
            return self._paths[path]
        except KeyError:
            if len(self._paths) >= MAX_REMEMBERED:
                self._paths.clear()
            directories = tuple(path.split(":"))
            is_plain = all(one[:1] == "/" and one[-1] != "/" for one in directories)
            found = self._paths[path] = directories if is_plain else None
            return found

    def _have_answered(self, directories: tuple[str, ...]) -> bool:
        """Return whether all directories have answered lately; a thread asks those that have not, and soon will not have."""
        now = time.monotonic()
        oldest = now + ANSWERS_FOR_S
        for directory in directories:
            if directory not in _SYSTEM:
                oldest = min(oldest, self._answered.get(directory, 0.0))
        if oldest < now + ANSWERS_FOR_S - ASKED_AGAIN_AFTER_S and directories not in self._asked:
            if len(self._asked) >= MAX_ASKED:
                return False
            self._asked.add(directories)
            done = partial(self._note_asked, directories)
            self._workers.run(("programs", directories), partial(self._ask, directories), done, self._lane)
        return oldest > now

    def _ask(self, directories: tuple[str, ...]) -> None:
        """Wait for the answers of directories. In a thread."""
        if len(self._answered) >= MAX_REMEMBERED:
            self._answered.clear()
        for directory in directories:
            with contextlib.suppress(OSError):  # an error is an answer as well
                os.stat(directory)  # noqa: PTH116 - text, as everywhere here
            self._answered[directory] = time.monotonic() + ANSWERS_FOR_S

    def _note_asked(self, directories: tuple[str, ...], _answer: object) -> None:
        self._asked.discard(directories)

    # ------------------------------------------------------------------ the directory

    def _directories_for(self, environment: Mapping[str, str]) -> dict[str, str | None] | None:
        """Return what bash makes of the variables about directories; None if only bash can tell."""
        if self._variables is None:
            return None
        for name, value in self._inherited.items():
            if environment.get(name) != value:
                return None
        return self._variables

    def _examine(self) -> dict[str, str | None] | None:
        """Look at the directories that variables name, as bash does at its start. In a thread. Raises: OSError."""
        pwd, before, user = (self._inherited[name] for name in _DIRECTORIES)
        here = os.stat(self._home)  # noqa: PTH116 - text
        if pwd is not None and pwd[:1] == "/" and os.path.normpath(pwd) == pwd and _is_same(pwd, here):
            place = pwd
        elif (pwd is not None and _is_same(pwd, here)) or (user is not None and _is_same(user, here)):
            return None
        else:
            place = self._home
        return {"PWD": place, "OLDPWD": before if before and os.path.isdir(before) else None}  # noqa: PTH112

    def _note_variables(self, found: dict[str, str | None] | OSError | None) -> None:
        self._variables = None if isinstance(found, OSError) else found


def _is_same(path: str, here: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), here)  # noqa: PTH116 - text
    except (OSError, ValueError):
        return False
