"""Searches lines with Python's regular expressions in a process of its own, which is killed when a line takes too long.

Python's engine backtracks, and keeps the interpreter meanwhile: neither a thread nor a signal can end it. Most patterns are
RE2's work; this process is started for the first line that needs another engine. Installed for `text/line_pattern.py` by
the agent and the controller.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time

import msgspec

from protocol.text.line_pattern import Groups, use_slow_engine

LIMIT_S = 0.5
"""Of one line. Ordinary ones take microseconds."""
BEGINS_WITHIN_S = 10.0
"""What a process gets to start on a busy machine, before its first line."""
_PROGRAM = """
import itertools, json, re, sys
print(flush=True)
for request in sys.stdin:
    pattern, line, limit = json.loads(request)
    found = itertools.islice(re.finditer(pattern, line), limit)
    print(json.dumps([[one[0], *one.groups()] for one in found]), flush=True)
"""

_answers = msgspec.json.Decoder(list[Groups])


class PatternProcess:
    """The process, which is started when it is needed. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._requests = self._answers = -1

    def matches(self, pattern: str, line: str, limit: int) -> list[Groups] | None:
        """Return a pattern's matches in a line with their groups, at most `limit`; None if that takes too long."""
        request = msgspec.json.encode((pattern, line, limit)) + b"\n"
        with self._lock:
            try:
                if not self._pid:
                    self._start()
                return self._ask(request)
            except (OSError, ValueError):
                self.end()
                return None

    def end(self) -> None:
        """Kill it, if there is one."""
        if not self._pid:
            return
        for descriptor in (self._requests, self._answers):
            os.close(descriptor)
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._pid = 0

    def _start(self) -> None:
        theirs_in, self._requests = os.pipe2(os.O_CLOEXEC)
        self._answers, theirs_out = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                (sys.executable, "-I", "-S", "-X", "utf8", "-c", _PROGRAM),
                {},
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, theirs_in, 0),
                    (os.POSIX_SPAWN_DUP2, theirs_out, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ),
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
                setsigmask=(),
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        os.set_blocking(self._requests, False)
        self._await(self._answers, select.POLLIN, time.monotonic() + BEGINS_WITHIN_S)
        os.read(self._answers, 1)

    def _ask(self, request: bytes) -> list[Groups]:
        """Return the answer. Raises: TimeoutError, which is an OSError; OSError, ValueError if the process has died."""
        deadline = time.monotonic() + LIMIT_S
        rest, answer = memoryview(request), b""
        while rest:
            self._await(self._requests, select.POLLOUT, deadline)
            rest = rest[os.write(self._requests, rest) :]
        while not answer.endswith(b"\n"):
            self._await(self._answers, select.POLLIN, deadline)
            answer += os.read(self._answers, 65536) or b"ended\n"
        return _answers.decode(answer)

    def _await(self, descriptor: int, event: int, deadline: float) -> None:
        poller = select.poll()
        poller.register(descriptor, event)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError


_PROCESS = PatternProcess()


def search(pattern: str, line: str, limit: int) -> list[Groups] | None:
    """Return a pattern's matches in a line, by the one such process of this one, as `PatternProcess.matches` does."""
    return _PROCESS.matches(pattern, line, limit)


def install() -> None:
    """Have lines that RE2 cannot search searched in such a process."""
    use_slow_engine(search)
