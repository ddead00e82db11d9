"""The operator's end: asks the controller for a change of its run, over the socket, or by a file where no route leads there.

One request is repeated until it is answered, on both ways with the same id: the run carries it out once, also if another
controller takes the run over meanwhile. Called by the commands of `cli/steering`.
"""

import os
import pwd
import shlex
import socket
import stat
import time
from contextlib import suppress
from typing import Literal

import msgspec
import zmq
from msgspec import Struct, field

from protocol.errors import ControllerAwayError, RunDirectoryError, UsageError
from protocol.session.codec import MAX_FRAME_BYTES
from sflow_ctl.core.requests import AnyAction, RequestAnswer
from sflow_ctl.runtime.operating.request_files import answer_path, request_path
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import ConnectionFacts, OperatorFacts
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular, write_for_now
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.viewing.messages import Answered, Ask, decode_to_operator, encode

Way = Literal["socket", "file"]
FILE_AFTER_S = 2.0
"""Without an answer for this time the request is left as a file as well."""
REPEAT_S = 1.0
LOOK_S = 0.1
LIVENESS_S = 2.0
GIVE_UP_AFTER_S = 60.0
DEAD_FOR_S = 5.0
"""How long a controller must be dead: another one may take the run over."""


class Replied(Struct, frozen=True):
    """An answer, and the way on which it came."""

    id: str
    answer: RequestAnswer
    way: Way


def asking_person() -> str:
    """Return who asks, for people: "alice on login1"."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"user {os.getuid()}"
    return f"{name} on {socket.gethostname()}"


def ask(
    reader: RunReader,
    action: AnyAction,
    within_s: float = GIVE_UP_AFTER_S,
    secrets: tuple[tuple[str, str], ...] = (),
) -> Replied:
    """Have a live run carry out an action; return its answer, which may be that it refuses.

    `secrets` are those that the action needs and the run may not have. On the way of a file they are in it until it is answered.

    Raises: UsageError for a run that has ended; ControllerAwayError for one that died or does not answer; RunDirectoryError
    for one whose key cannot be read.
    """
    check_alive(reader)
    request = Ask(id=os.urandom(16).hex(), by=asking_person(), action=action, secrets=secrets)
    asking = _Asking(reader, request)
    try:
        return asking.ask(within_s)
    finally:
        asking.close()


def check_accepted(reader: RunReader, answer: RequestAnswer, hint: str | None = None) -> None:
    """Raise a UsageError for a request that the run has refused; `hint` is for refusals without a remedy of their own."""
    if answer.error:
        what = f"{reader.facts.run_id}: {answer.error}"
        raise UsageError.of("request-refused", what, hint=answer.hint or hint)


def check_alive(reader: RunReader, instead: str = "") -> None:
    """Raise a UsageError for a run that has ended, a ControllerAwayError for one that died.

    `instead` is the remedy where the run has ended, with `RUN` for the run.
    """
    run_id = reader.facts.run_id
    word = shlex.quote(run_id)
    status = reader.status()
    if status.liveness is Liveness.ENDED:
        what = f"the run {run_id} has already ended"
        hint = instead.replace("RUN", word, 1) or f"sflow-ctl status {word} shows how it ended"
        raise UsageError.of("run-has-ended", what, hint=hint)
    if status.liveness is Liveness.DEAD:
        what = f"{run_id} died: {status.text}"
        hint = f"its agents have stopped its tasks; continue it with sflow-ctl run --resume {word}"
        raise ControllerAwayError.of("run-died", what, hint=hint)


def operator_key(reader: RunReader) -> OperatorFacts | None:
    """Return the key of those who may change the run; None if there is none now.

    Raises: RunDirectoryError for a key that others can read, or that this user cannot.
    """
    path = reader.directory / layout.OPERATOR
    try:
        info = path.lstat()
        if stat.S_IMODE(info.st_mode) & 0o077:
            what = f"{path} can be read by other users: its key is not used"
            raise RunDirectoryError.of(
                "operator-key-not-private", what, hint=f"chmod 600 {shlex.quote(str(path))}"
            )
        return msgspec.json.decode(read_regular(path), type=OperatorFacts)
    except (FileNotFoundError, *UNREADABLE):
        return None
    except PermissionError as error:
        what = f"{path} cannot be read: only the user who started the run may change it"
        raise RunDirectoryError.of("not-the-operator", what) from error


class _Asking(Struct):
    """One request that is not answered yet."""

    reader: RunReader
    request: Ask
    _context: "zmq.Context[zmq.Socket[bytes]] | None" = None
    _sockets: "list[zmq.Socket[bytes]]" = field(default_factory=list)
    _poller: zmq.Poller = field(default_factory=zmq.Poller)
    _repeat_at: float = 0.0
    _look_at: float = 0.0
    _dead_since: float | None = None
    _has_file: bool = False

    def ask(self, within_s: float) -> Replied:
        """Repeat the request until it is answered. Raises: as `ask`."""
        self._connect()
        began = now = time.monotonic()
        self._look_at = began + LIVENESS_S
        while now < began + within_s:
            if now >= self._repeat_at:
                self._repeat_at = now + REPEAT_S
                self._send()
            if not self._has_file and (not self._sockets or now >= began + FILE_AFTER_S):
                self._leave_file()
            found = self._receive() or self._read_answer()
            if found is not None:
                return found
            now = time.monotonic()
            if now >= self._look_at:
                self._look_at = now + LIVENESS_S
                self._look(now)
        raise self._no_answer(within_s)

    def close(self) -> None:
        """Close the sockets, and take back a request that was not taken."""
        for one in self._sockets:
            one.close(linger=0)
        if self._context is not None:
            self._context.term()
        if self._has_file:
            for path in (request_path, answer_path):
                with suppress(OSError):
                    path(self.reader.directory, self.request.id).unlink(missing_ok=True)

    def _connect(self) -> None:
        facts, key = self.reader.connection(), operator_key(self.reader)
        if facts is None or key is None:
            return
        self._context = zmq.Context()
        for endpoint in facts.client_endpoints:
            one = _socket(self._context, facts, key, endpoint)
            self._sockets.append(one)
            self._poller.register(one, zmq.POLLIN)

    def _send(self) -> None:
        for one in self._sockets:
            with suppress(zmq.Again):  # the controller is away; again when it is back
                one.send(encode(self.request), zmq.NOBLOCK)

    def _receive(self) -> Replied | None:
        if not self._sockets:
            time.sleep(LOOK_S)
            return None
        for one, _ in self._poller.poll(int(LOOK_S * 1000)):
            try:
                message = decode_to_operator(one.recv())
            except UNREADABLE:
                continue
            if not isinstance(message, Answered):
                return Replied(self.request.id, RequestAnswer(error=message.reason), "socket")
            if message.id == self.request.id:
                return Replied(self.request.id, message.answer, "socket")
        return None

    def _leave_file(self) -> None:
        """Leave the request in the run directory. Raises: RunDirectoryError."""
        self._has_file = True
        path = request_path(self.reader.directory, self.request.id)
        try:
            write_for_now(path, msgspec.json.encode(self.request))
        except OSError as error:
            if self._sockets:
                return
            what = f"the request cannot be left in {path.parent}: {error.strerror}"
            raise RunDirectoryError.of("request-not-written", what) from error

    def _read_answer(self) -> Replied | None:
        if not self._has_file:
            return None
        path = answer_path(self.reader.directory, self.request.id)
        try:
            os.listdir(path.parent)  # noqa: PTH208 - network file systems ask their server then
            answer = msgspec.json.decode(read_regular(path), type=RequestAnswer)
        except (OSError, *UNREADABLE):
            return None
        return Replied(self.request.id, answer, "file")

    def _look(self, now: float) -> None:
        """Raise an error if the run has ended, or its controller has been dead for a while."""
        if self.reader.summary() is None:
            if self.reader.controller_status().liveness is not Liveness.DEAD:
                self._dead_since = None
                return
            self._dead_since = now if self._dead_since is None else self._dead_since
            if now - self._dead_since < DEAD_FOR_S:
                return
        check_alive(self.reader)

    def _no_answer(self, within_s: float) -> ControllerAwayError:
        status = self.reader.controller_status()
        what = f"the controller has not answered within {within_s:g} s ({status.text})"
        hint = "the request may still be carried out, once: sflow-ctl events shows it then"
        return ControllerAwayError.of("no-answer", what, hint=hint)


def _socket(
    context: "zmq.Context[zmq.Socket[bytes]]", facts: ConnectionFacts, key: OperatorFacts, endpoint: str
) -> "zmq.Socket[bytes]":
    one = context.socket(zmq.DEALER)
    one.linger = 0
    one.ipv6 = "[" in endpoint
    one.curve_serverkey = facts.controller_key.encode()
    one.curve_publickey = zmq.curve_public(key.secret.encode())
    one.curve_secretkey = key.secret.encode()
    one.maxmsgsize = MAX_FRAME_BYTES
    one.sndhwm = 4  # repetitions that could not leave are worth nothing
    one.connect(endpoint)
    return one
