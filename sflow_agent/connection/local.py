"""The connections of an agent with the controller that has started it: two streams, for packets and for logs.

It passes their other ends through the door that it has inherited. They end when the controller is killed; the next one finds
new ones there.
"""

from collections import Counter
from contextlib import suppress

import msgspec

from protocol.errors import MalformedMessageError
from protocol.messages.config import AgentConfig
from protocol.messages.packets import LogAnswer, LogFrame
from protocol.session.codec import MAX_FRAME_BYTES, decode_log_answer, encode, is_numbered
from protocol.streams.door import INNER, connect
from protocol.streams.frame_stream import FrameStream
from protocol.streams.waiting import Waiting
from sflow_agent.connection.connections import HELD_BYTES, Dialled
from sflow_agent.descriptors import Descriptors

MOST_UNSENT_OF_LOGS = 1024 * 1024
"""Some chunks: so the kernel always has something to hand over."""
OWN_ADDRESS = "127.0.0.1"


class LocalConnections:
    """The streams of an agent. A `Connections`."""

    def __init__(self, counters: "Counter[str]", descriptors: Descriptors) -> None:
        self.dialled: list[Dialled] = []
        self.addresses: list[tuple[str, str]] = []
        self._counters, self._descriptors = counters, descriptors
        self._waiting = Waiting(descriptors.epoll)
        self._control: FrameStream | None = None
        self._logs: FrameStream | None = None
        self._has_arrivals = self._has_answers = True
        """Whether a stream, and that of logs, may have something to read."""
        self._held: list[bytes] = []
        self._held_bytes = 0

    new_key = ""

    def use_new_key(self, _key: str) -> bool:
        """Return False: there are no keys."""
        return False

    def wait(self, timeout_ms: int) -> None:
        """Wait for so many ms, or until a stream or another descriptor is ready."""
        self._waiting.wait(timeout_ms)
        ready, control, logs = self._waiting.descriptors, self._control, self._logs
        self._has_arrivals = control is not None and control.is_open and control.descriptor in ready
        self._has_answers = logs is not None and logs.is_open and logs.descriptor in ready
        if self._has_arrivals or self._has_answers:
            own = [one.descriptor for one in (control, logs) if one is not None and one.is_open]
            ready = [one for one in ready if one not in own]
        self._descriptors.note_ready(ready)

    @property
    def has_arrivals(self) -> bool:
        """Return whether something can be read, as far as is known."""
        return self._has_arrivals or self._has_answers or bool(self._held)

    def as_session(self, config: AgentConfig, incarnation: int, controller_pid: int | None) -> AgentConfig:
        """Return a configuration with what the present session has; the next agent inherits the same door."""
        return msgspec.structs.replace(
            config, nonce_path=None, controller_incarnation=incarnation, controller_pid=controller_pid
        )

    def dial(self) -> None:
        """Pass the other ends of two new streams through the door."""
        self.dialled = [Dialled("", OWN_ADDRESS)]
        with suppress(
            OSError
        ):  # no controller, and none will come; or too many wait: again with the next packet
            control, logs = connect(INNER)
            self._control = FrameStream(control, self._waiting, MAX_FRAME_BYTES)
            self._logs = FrameStream(logs, self._waiting, MOST_UNSENT_OF_LOGS)
            self._has_arrivals = self._has_answers = True

    def keep(self, _kept: Dialled) -> None:
        """Do nothing: there is one way, for both."""

    def drop(self) -> None:
        """Close the streams."""
        for stream in (self._control, self._logs):
            if stream is not None:
                stream.close()
        self._control = self._logs = None
        self.dialled = []

    def close(self, linger_ms: int) -> None:
        """Close the streams once everything is sent, or after `linger_ms`."""
        for stream in (self._control, self._logs):
            if stream is not None:
                stream.finish(linger_ms / 1000)
        self._control = self._logs = None
        self.dialled = []

    def end(self) -> None:
        """Do nothing: nothing lingers."""

    # ------------------------------------------------------------------ packets

    def receive(self) -> list[tuple[bytes, Dialled]]:
        """Return the packets that have come since the last call."""
        way = self.dialled[0]
        packets = [(frame, way) for frame in self._held]
        self._held, self._held_bytes = [], 0
        self._has_arrivals = False  # what else there is, the next wait finds at once
        if self._control is not None:
            self._control.flush()
            packets += [(frame, way) for frame, _ in self._control.receive()]
        return packets

    def hold(self) -> bool:
        """Take packets in for a later `receive`, but not heartbeats; return whether any has come."""
        has_any = False
        while self._control is not None and self._held_bytes < HELD_BYTES:
            frames = self._control.receive()
            if not frames:
                break
            has_any = True
            for frame, _ in frames:
                if is_numbered(frame):
                    self._held.append(frame)
                    self._held_bytes += len(frame)
        return has_any

    def send(self, _target: Dialled, frame: bytes) -> None:
        """Send a packet, on a new stream if the controller has closed this one."""
        if self._control is None or not self._control.takes:
            self._dial_again()
        if self._control is None or not self._control.send(frame):
            self._counters["unsent"] += 1

    def send_log(self, header: LogFrame, body: bytes) -> bool:
        """Send one piece of a log or a file; return False when the stream accepts no more now."""
        return self._logs is not None and self._logs.send(encode(header), body)

    def log_answers(self) -> list[tuple[LogAnswer, bytes]]:
        """Return what the controller has answered to such pieces."""
        answers: list[tuple[LogAnswer, bytes]] = []
        if self._logs is None or not self._has_answers:
            return answers
        self._has_answers = False
        self._logs.flush()
        for frame, body in self._logs.receive():
            try:
                answers.append((decode_log_answer(frame), body))
            except MalformedMessageError:
                self._counters["malformed"] += 1
        return answers

    def _dial_again(self) -> None:
        """Make new streams in the same session: what was on its way is repeated."""
        way = self.dialled
        self.drop()
        self.dial()
        self.dialled = way or self.dialled
