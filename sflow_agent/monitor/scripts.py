"""Runs the scripts of `custom` scopes in the background, each in a session of its own. `monitoring` says which.

Their output is not kept, and how they end decides nothing.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping

from protocol.machine.procfs import descendants, is_living, session_of

GRACE_S = 2.0


class BackgroundScripts:
    """The running scripts, by text. `warn` is called once for each text."""

    def __init__(self, environment: Mapping[str, str], warn: Callable[[str], None]) -> None:
        self._environment = environment
        self._warn = warn
        self._running: dict[str, int] = {}
        self._ending: dict[int, float] = {}
        """Sessions that were asked to end, and when they are killed."""

    def change(self, wanted: tuple[str, ...], now: float) -> None:
        """Start the scripts that are wanted and do not run; end those that are not wanted any more."""
        for script in [one for one in self._running if one not in wanted]:
            session = self._running.pop(script)
            _signal(session, signal.SIGTERM)
            self._ending[session] = now + GRACE_S
        for script in wanted:
            if script not in self._running:
                self._start(script)

    def next_wakeup(self) -> float | None:
        """Return when `kill_late` is due."""
        return min(self._ending.values(), default=None)

    def kill_late(self, now: float) -> None:
        """Kill what has not ended in time."""
        for session in [one for one, at in self._ending.items() if at <= now]:
            del self._ending[session]
            _signal(session, signal.SIGKILL)

    def end_all(self) -> None:
        """End all scripts: the agent ends, and kills whatever it has started."""
        self.change((), time.monotonic())

    def _start(self, script: str) -> None:
        null = os.devnull
        try:
            self._running[script] = os.posix_spawnp(
                "bash",
                ("bash", "-c", script),
                dict(self._environment),
                file_actions=(
                    (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, null, os.O_WRONLY, 0),
                ),
                setsid=True,
                setsigmask=(),
            )
        except OSError as error:
            self._warn(f"the script of a monitor cannot be started: {error.strerror}")


def _signal(session: int, number: int) -> None:
    """Signal all processes of a session that this agent has started: a number alone may be another's by now."""
    for pid in descendants(os.getpid()):
        if session_of(pid) == session and is_living(pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
