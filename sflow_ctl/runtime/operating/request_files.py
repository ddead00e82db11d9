"""Requests as files in the run directory, for operators whose host has no route to the controller's.

Who can write there may change the run: the same user as can read the operator's key. `ID.request.json` is written by the
operator and removed once `ID.answer.json` is there, which the operator removes. The controller lists the directory once a
second, in a thread: network file systems report no changes of other machines, and one that does not answer holds up nothing.
"""

import contextlib
import os
import stat
import threading
from collections import deque
from pathlib import Path

import msgspec

from protocol.machine.loop_signals import QuietThread
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.core.requests import RequestAnswer
from sflow_ctl.runtime.operating.desk import RequestDesk
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, write_for_now
from sflow_ctl.runtime.viewing.messages import Answered, Ask, ToOperatorMessage

LOOK_EVERY_S = 1.0
MAX_BYTES = 256 * 1024
"""The limit of a request: the names of some thousand tasks."""
MAX_PER_LOOK = 64
CLOSE_WITHIN_S = 1.0
_REQUEST = lazy_pattern(r"^([0-9a-f]{32})\.request\.json$")


def request_path(directory: Path, request_id: str) -> Path:
    """Return the file of a request, in the run directory `directory`."""
    return directory / layout.REQUESTS / f"{request_id}.request.json"


def answer_path(directory: Path, request_id: str) -> Path:
    """Return the file of its answer."""
    return directory / layout.REQUESTS / f"{request_id}.answer.json"


class RequestFiles:
    """The thread that looks for request files, and writes the answers."""

    def __init__(self, directory: Path, desk: RequestDesk) -> None:
        """`directory` is the run's."""
        self._directory, self._desk = directory, desk
        self._answers: deque[tuple[str, RequestAnswer]] = deque()
        self._taken: set[str] = set()
        """Requests whose answer is not written yet."""
        self._has_news, self._is_closing = threading.Event(), False
        self._thread = QuietThread(self._watch, "requests")

    def __enter__(self) -> "RequestFiles":
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Answer what is left, and stop; does not wait for a file system that does not answer."""
        self._desk.give_up()
        self._is_closing = True
        self._has_news.set()
        self._thread.join(CLOSE_WITHIN_S)

    def _watch(self) -> None:
        while not self._is_closing:
            with contextlib.suppress(OSError):  # the claim's thread reports a directory that is gone
                self._take_new()
            self._has_news.wait(LOOK_EVERY_S)
            self._has_news.clear()
            self._write_answers()

    def _take_new(self) -> None:
        with os.scandir(self._directory / layout.REQUESTS) as entries:
            names = [entry.name for entry in entries]
        found = [match[1] for name in names if (match := _REQUEST.match(name)) is not None]
        for request_id in [one for one in found if one not in self._taken][:MAX_PER_LOOK]:
            self._taken.add(request_id)
            ask = self._read(request_id)
            if isinstance(ask, Ask):
                self._desk.take(ask, lambda message, of=request_id: self._reply(of, message))  # type: ignore[misc]
            else:
                self._answers.append((request_id, RequestAnswer(error=ask)))
                self._has_news.set()

    def _read(self, request_id: str) -> Ask | str:
        """Return a request, or what is wrong with its file."""
        path = request_path(self._directory, request_id)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return f"its file cannot be read: {error.strerror}"
        with os.fdopen(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode) or info.st_uid not in (os.getuid(), 0):
                return "its file is not a file of the run's user"
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            return f"its file is longer than {MAX_BYTES} bytes"
        try:
            ask = msgspec.json.decode(content, type=Ask)
        except UNREADABLE:
            return "the controller does not understand the request: it is of another version of sflow-ctl"
        return ask if ask.id == request_id else "its file has the name of another request"

    def _reply(self, request_id: str, message: ToOperatorMessage) -> None:
        answer = message.answer if isinstance(message, Answered) else RequestAnswer(error=message.reason)
        self._answers.append((request_id, answer))
        self._has_news.set()

    def _write_answers(self) -> None:
        while self._answers:
            request_id, answer = self._answers[0]
            try:
                write_for_now(answer_path(self._directory, request_id), msgspec.json.encode(answer))
                request_path(self._directory, request_id).unlink(missing_ok=True)
            except OSError:
                return  # a full disk: again with the next look
            self._answers.popleft()
            self._taken.discard(request_id)
