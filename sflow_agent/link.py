"""The agent's sockets and its session with the controller.

Dials every address that the controller published and keeps the first that completes the authenticated
handshake. After a silence it dials anew and sends a hello with its complete state; unacknowledged facts are
repeated in the new session. A source of the loop.
"""

import os
from collections import Counter
from collections.abc import Callable

import msgspec
import zmq

from protocol.errors import MalformedMessageError
from protocol.ids import RankId
from protocol.messages.config import AgentConfig
from protocol.messages.facts import FromAgent, Hello
from protocol.messages.logs import LogChunk
from protocol.messages.orders import Enrolled, Refused, Reintroduce, ToAgent, Welcome
from protocol.messages.packets import FromAgentPacket
from protocol.session.channel import Channel, Numbered
from protocol.session.codec import decode_to_agent, encode
from protocol.session.packing import parts_of
from sflow_agent.core.events import AgentEvent, EndRequested, FactsAcknowledged, Ordered
from sflow_agent.dialling import Dialled, dealer, is_refused, log_acks, own_address
from sflow_agent.node.controller_watch import ControllerWatch

HELLO_EVERY_S = 1.0
SILENT_HEARTBEATS = 3
MAX_PACKETS_PER_PASS = 512
ENDING_GRACE_S = 6.0
"""Silence of the controller after Slurm's SIGTERM; sites kill after 30 s (KillWait), and tasks have their own grace."""


class ControllerLink:
    """The connection to the controller."""

    def __init__(self, config: AgentConfig, make_hello: Callable[[str, int, int], Hello], now: float) -> None:
        self.counters: Counter[str] = Counter()
        self.on_new_session: Callable[[], None] = lambda: None
        self.controller_lives: Callable[[], bool] = lambda: False
        """Returns whether a controller on this machine is seen to live, though it is silent: it may be stopped (Ctrl-Z)."""
        self.on_controller: Callable[[int], None] = lambda _pid: None
        """Called with the pid of a controller that has accepted the agent."""
        self.on_look: Callable[[float, float], object] = lambda _heard_at, _grace_s: None
        """Called with when the controller was last heard of, and how long the agent lives without one."""
        self.on_log_ack: Callable[[RankId, int], None] = lambda _rank, _offset: None
        """Called with the number of a log's bytes that the controller has."""
        self._watch = ControllerWatch()
        self._used_endpoint = ""
        """The controller's address that has answered."""
        self._has_unacknowledged = False
        self._config = config
        self._keys = (config.public_key.encode(), config.secret_key.encode())
        self._own_keys = zmq.curve_keypair() if config.must_enrol else None
        """(public, secret), not in use yet: the controller has to know them first."""
        self._make_hello = make_hello
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._dialled: list[Dialled] = []
        self._control: zmq.Socket[bytes] | None = None
        self._logs: zmq.Socket[bytes] | None = None
        self._channel: Channel[FromAgent] = Channel()
        self._outbox: list[FromAgent] = []
        self._session = ""
        self._session_number = 0
        self._incarnation = 0
        self._is_welcome = False
        self._is_given_up = False
        self._heartbeat_s = 2.0
        self._orphan_grace_s = config.orphan_grace_s
        self._last_heard = now
        self._last_sent = now
        self._last_look = now
        self._next_hello = now
        self._dial()

    # ------------------------------------------------------------------ the loop's side

    @property
    def poller(self) -> zmq.Poller:
        """The poller of the loop, which adds its own descriptors."""
        return self._poller

    def poll(self, now: float) -> list[AgentEvent]:
        """Return the orders that have arrived, and the effects of time: a source of the loop."""
        events: list[AgentEvent] = [Ordered(order) for order in self.receive(now)]
        for ack in log_acks(self._logs, self.counters):
            self.on_log_ack(ack.rank, ack.offset)
        reason = self.tick(now)
        if reason is not None:
            events.append(EndRequested(reason))
        if self._has_unacknowledged and self.is_idle:
            self._has_unacknowledged = False
            events.append(FactsAcknowledged())
        return events

    def receive(self, now: float) -> list[ToAgent]:
        """Return the orders that have arrived, each once and in order."""
        orders: list[ToAgent] = []
        for dialled in list(self._dialled):
            for _ in range(MAX_PACKETS_PER_PASS):
                if dialled not in self._dialled:
                    break  # another address has just won
                try:
                    frame = dialled.control.recv(zmq.NOBLOCK)
                except zmq.Again:
                    break
                self._take(frame, dialled, now, orders)
        return orders

    def expect_end(self, now: float) -> None:
        """Give a silent controller up soon, and a dead one at once: Slurm kills what is left of the job after a while."""
        is_dead = bool(self._dialled) and is_refused(self._dialled[0].endpoint)
        self._orphan_grace_s = min(self._orphan_grace_s, 0.0 if is_dead else ENDING_GRACE_S)
        self._last_heard = max(self._last_heard, now - self._heartbeat_s)

    def report(self, message: FromAgent) -> None:
        """Queue a fact; it leaves with the next `flush`."""
        self._has_unacknowledged = True
        self._outbox.append(message)

    def send_log(self, header: LogChunk, body: bytes) -> bool:
        """Send one chunk; return False when the socket accepts no more now."""
        if self._logs is None or not self._is_welcome:
            return False
        try:
            self._logs.send_multipart((encode(header), body), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def flush(self, now: float) -> None:
        """Send everything queued in one packet, or the acknowledgement owed."""
        if not self._is_welcome:
            return
        if self._outbox:
            for part in parts_of(self._outbox):
                self._put(self._channel.send(part, now), now)
            self._outbox = []
        elif self._channel.owes_ack:
            self._put(self._channel.heartbeat(), now)

    @property
    def is_welcome(self) -> bool:
        """Return whether there is a session with the controller."""
        return self._is_welcome

    @property
    def is_idle(self) -> bool:
        """Return whether everything reported has been acknowledged."""
        return not self._outbox and self._channel.is_idle

    @property
    def can_deliver(self) -> bool:
        """Return whether a fact is unacknowledged and the controller may still acknowledge it."""
        return not self.is_idle and not self._is_given_up

    def next_wakeup(self) -> float:
        """Return when `tick` is due."""
        if self._is_given_up:
            return self._last_look + self._heartbeat_s
        if not self._is_welcome:
            return min(self._next_hello, self._last_heard + self._orphan_grace_s)
        due = self._last_sent + self._heartbeat_s
        overdue = self._channel.next_wakeup()
        return due if overdue is None else min(due, overdue)

    def tick(self, now: float) -> str | None:
        """Send the hellos, heartbeats and repetitions that are due.

        Return, once, why the controller counts as gone.
        """
        if now - self._last_look > 2 * self._heartbeat_s:
            # This process was suspended (SIGSTOP, a paused machine): the silence is its own.
            self._last_heard = max(self._last_heard, now - self._heartbeat_s)
        self._last_look = now
        self._watch_controller(now)
        silence = now - self._last_heard
        # An agent that has given up is ending its tasks, and gets the time for that.
        self.on_look(now if self._is_given_up else self._last_heard, self._orphan_grace_s)
        if silence >= self._orphan_grace_s and not self._is_given_up:
            self._is_given_up = True
            return f"no message from the controller for {silence:.0f} s"
        if self._is_welcome and (silence > SILENT_HEARTBEATS * self._heartbeat_s or self._channel.is_broken):
            self._begin_session(now)
        if not self._is_welcome:
            if now >= self._next_hello:
                self._say_hello(now)
            return None
        for numbered in self._channel.overdue(now):
            self.counters["repeated"] += 1
            self._put(numbered, now)
        if now - self._last_sent >= self._heartbeat_s:
            self._put(self._channel.heartbeat(), now)
        return None

    def _watch_controller(self, now: float) -> None:
        """Forgive a silence that is due to a stopped controller: Ctrl-Z or a suspended job, here or elsewhere."""
        silence, grace_s = now - self._last_heard, self._orphan_grace_s
        if silence < min(SILENT_HEARTBEATS * self._heartbeat_s, grace_s / 2) or self._is_given_up:
            self._watch.close()
        elif not self._watch.is_open and self._used_endpoint:
            self._watch.open(self._used_endpoint)
        self._watch.speak()
        is_late = silence >= grace_s and not self._is_given_up
        if is_late and (self.controller_lives() or self._watch.is_stopped()):
            self._last_heard = now - grace_s / 2  # looked at again after the other half

    def close(self, linger_ms: int) -> None:
        """Close all sockets once everything is sent, or after `linger_ms`."""
        self._watch.close()
        for dialled in self._dialled:
            dialled.control.close(linger=linger_ms)
        if self._logs is not None:
            self._logs.close(linger=linger_ms)
        self._context.term()

    # ------------------------------------------------------------------ sessions

    def redial(self, now: float) -> None:
        """Say hello to the controller that has taken over, or is about to: it knows nothing of the session."""
        if self._is_welcome and not self._is_given_up:
            self._last_heard = now
            self._begin_session(now)

    def _dial(self) -> None:
        for endpoint, log_endpoint in zip(
            self._config.control_endpoints, self._config.log_endpoints, strict=True
        ):
            control = dealer(self._context, self._config.controller_key, self._keys, endpoint)
            self._poller.register(control, zmq.POLLIN)
            self._dialled.append(Dialled(control, endpoint, log_endpoint, own_address(endpoint)))
        self._session = os.urandom(8).hex()
        self._session_number += 1

    def _begin_session(self, now: float) -> None:
        self._outbox = [*self._channel.unacknowledged(), *self._outbox]
        for dialled in self._dialled:
            self._poller.unregister(dialled.control)
            dialled.control.close(linger=0)
        self._dialled.clear()
        if self._logs is not None:
            self._poller.unregister(self._logs)
            self._logs.close(linger=0)
            self._logs = None
        self._channel = Channel()
        self._is_welcome = False
        self._next_hello = now
        self._dial()

    def _say_hello(self, now: float) -> None:
        hello = self._make_hello(self._session, self._session_number, self._incarnation)
        if self._own_keys is not None:
            hello = msgspec.structs.replace(hello, key=self._own_keys[0].decode())
        for dialled in self._dialled:
            # The first to arrive came over an address that works, so our address that it names is right, too.
            ours = msgspec.structs.replace(hello, address=dialled.own_address, endpoint=dialled.endpoint)
            self._send(dialled.control, encode(FromAgentPacket(session=self._session, messages=(ours,))))
        # Jitter: a thousand agents must not reconnect at the same time.
        self._next_hello = now + HELLO_EVERY_S * (0.75 + os.urandom(1)[0] / 512)

    def _take(self, frame: bytes, dialled: Dialled, now: float, orders: list[ToAgent]) -> None:
        try:
            packet, unknown = decode_to_agent(frame)
        except MalformedMessageError:
            self.counters["malformed"] += 1
            return
        self.counters["unknown_messages"] += unknown
        if packet.incarnation < self._incarnation:
            self.counters["stale_packets"] += 1
            return
        if packet.messages and isinstance(packet.messages[0], Refused):
            orders.append(packet.messages[0])
            return
        if packet.messages and isinstance(packet.messages[0], Enrolled):
            self._take_enrolled(packet.messages[0], now)
            return
        if packet.session != self._session:
            self.counters["stale_packets"] += 1
            return
        if packet.messages and isinstance(packet.messages[0], Reintroduce):
            self.redial(now)
            return
        self._last_heard = now
        self._incarnation = packet.incarnation
        if self._channel.receive(packet.seq, packet.ack, now):
            for message in packet.messages:
                if isinstance(message, Welcome) and not self._is_welcome:
                    self._use(dialled, message)
                orders.append(message)

    def _take_enrolled(self, enrolled: Enrolled, now: float) -> None:
        """Dial anew with the agent's own keys, which the controller knows now; a repeated answer is ignored."""
        if self._own_keys is not None and enrolled.key == self._own_keys[0].decode():
            self._keys, self._own_keys = self._own_keys, None
            self._last_heard = now
            self._begin_session(now)

    def _use(self, dialled: Dialled, welcome: Welcome) -> None:
        """Keep this address, which works: close the others, and send logs the same way."""
        self._is_welcome = True
        self._heartbeat_s = welcome.heartbeat_s
        self._orphan_grace_s = welcome.orphan_grace_s
        for other in self._dialled:
            if other is not dialled:
                self._poller.unregister(other.control)
                other.control.close(linger=0)
        self._dialled = [dialled]
        self._used_endpoint = dialled.endpoint
        if welcome.controller_pid is not None:
            self.on_controller(welcome.controller_pid)
        self._logs = dealer(self._context, self._config.controller_key, self._keys, dialled.log_endpoint)
        self._poller.register(self._logs, zmq.POLLIN)
        self.on_new_session()

    def _put(self, numbered: Numbered[FromAgent], now: float) -> None:
        packet = FromAgentPacket(
            session=self._session, seq=numbered.seq, ack=numbered.ack, messages=numbered.messages
        )
        self._last_sent = now
        self._send(self._dialled[0].control, encode(packet))

    def _send(self, target: "zmq.Socket[bytes]", frame: bytes) -> None:
        try:
            target.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            self.counters["unsent"] += 1  # the channel repeats it
