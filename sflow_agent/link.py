"""The agent's sockets and its session with the controller.

Dials every address that the controller published and keeps the first that completes the authenticated
handshake. After a silence it dials anew and sends a hello with its complete state; unacknowledged facts are
repeated in the new session. A source of the loop.
"""

import os
import select
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from protocol.errors import MalformedMessageError
from protocol.ids import RankId
from protocol.machine.loop_watch import MOVES, Standstill
from protocol.messages.config import AgentConfig
from protocol.messages.facts import FromAgent, Hello
from protocol.messages.orders import Enrolled, Refused, Reintroduce, ToAgent, Welcome
from protocol.messages.packets import FileAnswer, FromAgentPacket, LogFrame
from protocol.session.channel import Channel, Numbered
from protocol.session.codec import decode_to_agent, encode
from protocol.session.packing import parts_of
from sflow_agent.connection.connections import Connections, Dialled, connections
from sflow_agent.core.events import AgentEvent, EndRequested, FactsAcknowledged, FactsSent, Ordered
from sflow_agent.descriptors import Descriptors
from sflow_agent.node.controller_watch import ControllerWatch, is_refused

if TYPE_CHECKING:
    from sflow_agent.connection.successor import SuccessorSearch

MakeHello = Callable[[str, int, int], Hello]
HELLO_EVERY_S = 1.0
SILENT_HEARTBEATS = 3
SPOKEN_WITHIN_S = 0.5
"""How long the thread that speaks for the loop waits for the sockets: the loop has them for a moment only."""
ENDING_GRACE_S = 6.0
"""Silence of the controller after Slurm's SIGTERM; sites kill after 30 s (KillWait), and tasks have their own grace."""


class _Successors:
    """Looks for a controller that has taken the run over; imports what that takes when the known one is silent."""

    def __init__(self, run_directory: str, connections: Connections) -> None:
        self._run_directory, self._connections = run_directory, connections
        self._search: SuccessorSearch | None = None

    def found(self, now: float, incarnation: int) -> bool:
        """Return whether there is a newer one, whose addresses are the ones to dial now."""
        if self._search is None:
            from sflow_agent.connection.successor import SuccessorSearch

            self._search = SuccessorSearch(self._run_directory, self._connections)
        return self._search.found(now, incarnation)


class LinkListeners:
    """Whom a link calls, and whom it asks; all of them may be replaced."""

    def __init__(self) -> None:
        self.on_new_session: Callable[[], None] = lambda: None
        self.controller_lives: Callable[[], bool] = lambda: False
        """Returns whether a controller on this machine is seen to live, though it is silent: it may be stopped (Ctrl-Z)."""
        self.on_controller: Callable[[int], None] = lambda _pid: None
        """Called with the pid of a controller that has accepted the agent."""
        self.on_look: Callable[[float, float], object] = lambda _heard_at, _grace_s: None
        """Called with when the controller was last heard of, and how long the agent lives without one."""
        self.on_log_ack: Callable[[RankId, int], None] = lambda _rank, _offset: None
        """Called with the number of a log's bytes that the controller has."""
        self.on_file_answer: Callable[[FileAnswer, bytes], None] = lambda _answer, _body: None


class ControllerLink:
    """The connection to the controller."""

    def __init__(
        self, config: AgentConfig, make_hello: MakeHello, now: float, descriptors: Descriptors | None = None
    ) -> None:
        """`descriptors` are what the loop waits for beside the link."""
        self.counters: Counter[str] = Counter()
        self.listeners = LinkListeners()
        self._watch = ControllerWatch()
        self._used_endpoint = ""
        """The controller's address that has answered."""
        self._config, self._make_hello = config, make_hello
        self._has_news = False
        """Facts were reported since the last `FactsSent`."""
        self._awaited: int | None = None
        """The last packet at that moment; None once it is acknowledged."""
        self._connections = connections(config, self.counters, descriptors or Descriptors(select.epoll()))
        self._successors = _Successors(config.run_directory, self._connections)
        self._lock = threading.RLock()
        """Around every use of the sockets and of what is known of the session, the wait for events included: while the loop
        does something else, a thread may speak for it."""
        self._is_controller_still = False
        """The controller's loop stands still, and nothing need be repeated until it moves."""
        self._has_new_session = self._is_closed = self._is_late = False
        self._channel: Channel[FromAgent] = Channel()
        self._outbox: list[FromAgent] = []
        self._session, self._session_number = "", 0
        self._incarnation = config.controller_incarnation
        self._controller_pid = config.controller_pid
        self.is_welcome = self._is_given_up = False
        """Whether there is a session with the controller, and whether it is not waited for any more."""
        self._heartbeat_s, self._orphan_grace_s = 2.0, config.orphan_grace_s
        self._last_heard = self._last_sent = self._last_look = self._next_hello = now
        self._dial()

    # ------------------------------------------------------------------ the loop's side

    def wait(self, timeout_ms: int) -> None:
        """Wait for a packet, or for another descriptor of the loop."""
        with self._lock:
            self._connections.wait(timeout_ms)

    def poll(self, now: float) -> list[AgentEvent]:
        """Return the orders that have arrived, and the effects of time: a source of the loop."""
        events: list[AgentEvent] = [Ordered(order) for order in self.receive(now)]
        if self._has_new_session:
            self._has_new_session = False
            self.listeners.on_new_session()
        for answer, body in self._connections.log_answers():
            if isinstance(answer, FileAnswer):
                self.listeners.on_file_answer(answer, body)
            else:
                self.listeners.on_log_ack(answer.rank, answer.offset)
        if now >= self._next_tick() and (reason := self.tick(now)) is not None:
            events.append(EndRequested(reason))
        return events + self._progress()

    def _progress(self) -> list[AgentEvent]:
        """Return which facts the controller has. There is no moment when it has all, while tasks end all the time."""
        events: list[AgentEvent] = []
        if self._awaited is not None and self._channel.has_acknowledged(self._awaited):
            self._awaited = None
            events.append(FactsAcknowledged())
        if self._awaited is None and self._has_news and not self._outbox:
            self._has_news, self._awaited = False, self._channel.newest
            events.append(FactsSent())
        return events

    def receive(self, now: float) -> list[ToAgent]:
        """Return the orders that have arrived, each once and in order."""
        orders: list[ToAgent] = []
        with self._lock:
            for frame, dialled in self._connections.receive():
                if dialled in self._connections.dialled:  # else another address has just won
                    self._take(frame, dialled, now, orders)
        return orders

    def speak_for_loop(self, now: float, standstill: Standstill) -> None:
        """Tell the controller and the guardian that the agent lives, and take packets in; for the thread that does this.

        What the packets say is left to the loop, which may be anywhere in its work.
        """
        if not self._lock.acquire(timeout=SPOKEN_WITHIN_S):
            return  # the loop moves again
        try:
            if self._is_closed or not self.is_welcome:
                return
            if self._connections.hold():
                self._last_heard, self._is_late = now, False
            if not self._is_late:  # else the guardian ends the agent, unless the loop moves before
                self._watch_controller(now)
            if not self._is_given_up:
                self.listeners.on_look(self._last_heard, self._orphan_grace_s)
            if now - self._last_sent >= self._heartbeat_s / 2:
                self._put(self._channel.unacknowledging_heartbeat(), now, standstill)
        finally:
            self._lock.release()

    def expect_end(self, now: float) -> None:
        """Give a silent controller up soon, and a dead one at once: Slurm kills what is left of the job after a while."""
        dialled = self._connections.dialled
        is_dead = bool(dialled and dialled[0].endpoint) and is_refused(dialled[0].endpoint)
        self._orphan_grace_s = min(self._orphan_grace_s, 0.0 if is_dead else ENDING_GRACE_S)
        self._last_heard = max(self._last_heard, now - self._heartbeat_s)

    def report(self, message: FromAgent) -> None:
        """Queue a fact; it leaves with the next `flush`."""
        self._has_news = True
        self._outbox.append(message)

    def send_log(self, header: LogFrame, body: bytes) -> bool:
        """Send one piece of a log or a file; return False when the socket accepts no more now."""
        return self.is_welcome and self._connections.send_log(header, body)

    def flush(self, now: float) -> None:
        """Send everything queued in one packet, or the acknowledgement owed."""
        if not self.is_welcome or not (self._outbox or self._channel.owes_ack):
            return
        with self._lock:
            for part in parts_of(self._outbox):
                self._put(self._channel.send(part, now), now)
            self._outbox = []
            if self._channel.owes_ack:
                self._put(self._channel.heartbeat(), now)

    @property
    def is_idle(self) -> bool:
        """Return whether everything reported has been acknowledged."""
        return not self._outbox and self._channel.is_idle

    @property
    def can_deliver(self) -> bool:
        """Return whether a fact is unacknowledged and the controller may still acknowledge it."""
        return not self.is_idle and not self._is_given_up

    def next_wakeup(self) -> float:
        """Return when `poll` is due: 0 while there are packets to read."""
        return 0.0 if self._connections.has_arrivals else self._next_tick()

    def _next_tick(self) -> float:
        look_at = self._last_look + self._heartbeat_s  # facts may be sent all the time
        if self._is_given_up:
            return look_at
        if not self.is_welcome:
            return min(self._next_hello, self._last_heard + self._orphan_grace_s)
        due = min(self._last_sent + self._heartbeat_s, look_at)
        overdue = self._channel.next_wakeup()
        return due if overdue is None else min(due, overdue)

    def tick(self, now: float) -> str | None:
        """Send the hellos, heartbeats and repetitions that are due.

        Return, once, why the controller counts as gone.
        """
        with self._lock:
            return self._tick(now)

    def _tick(self, now: float) -> str | None:
        if now - self._last_look > 2 * self._heartbeat_s:
            # This process was suspended (SIGSTOP, a paused machine): the silence is its own.
            self._last_heard = max(self._last_heard, now - self._heartbeat_s)
        self._last_look = now
        self._watch_controller(now)
        silence = now - self._last_heard
        is_silent = silence > SILENT_HEARTBEATS * self._heartbeat_s
        if is_silent and not self._is_given_up and self._successors.found(now, self._incarnation):
            self._begin_session(now)
        # An agent that has given up is ending its tasks, and gets the time for that.
        self.listeners.on_look(now if self._is_given_up else self._last_heard, self._orphan_grace_s)
        if silence >= self._orphan_grace_s and not self._is_given_up:
            self._is_given_up = True
            return f"no message from the controller for {silence:.0f} s"
        if self.is_welcome and (is_silent or self._channel.is_broken):
            self._begin_session(now)
        if not self.is_welcome:
            if now >= self._next_hello:
                self._say_hello(now)
            return None
        for numbered in () if self._is_controller_still else self._channel.overdue(now):
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
        self._is_late = silence >= grace_s and not self._is_given_up
        if self._is_late and (self.listeners.controller_lives() or self._watch.is_stopped()):
            self._last_heard, self._is_late = now - grace_s / 2, False  # looked at again after the other half

    def close(self, linger_ms: int) -> None:
        """Close all sockets once everything is sent, or after `linger_ms`."""
        self._watch.close()
        with self._lock:
            self._is_closed = True
            self._connections.close(linger_ms)
        self._connections.end()

    # ------------------------------------------------------------------ sessions

    def as_session(self, config: AgentConfig) -> AgentConfig:
        """Return the configuration with what this session has: for an agent that takes the place of this one."""
        return self._connections.as_session(config, self._incarnation, self._controller_pid)

    def redial(self, now: float) -> None:
        """Say hello to the controller that has taken over, or is about to: it knows nothing of the session."""
        with self._lock:
            if self.is_welcome and not self._is_given_up:
                self._last_heard = now
                self._begin_session(now)

    def _dial(self) -> None:
        self._connections.dial()
        self._session = os.urandom(8).hex()
        self._session_number += 1

    def _begin_session(self, now: float) -> None:
        self._outbox = [*self._channel.unacknowledged(), *self._outbox]
        self._has_news, self._awaited = True, None
        self._connections.drop()
        self._channel = Channel()
        self.is_welcome = self._is_controller_still = False
        self._next_hello = now
        self._dial()

    def _say_hello(self, now: float) -> None:
        hello = self._make_hello(self._session, self._session_number, self._incarnation)
        if self._connections.new_key:
            hello = msgspec.structs.replace(hello, key=self._connections.new_key)
        for dialled in self._connections.dialled:
            # The first to arrive came over an address that works, so our address that it names is right, too.
            ours = msgspec.structs.replace(hello, address=dialled.own_address, endpoint=dialled.endpoint)
            self._connections.send(dialled, encode(FromAgentPacket(session=self._session, messages=(ours,))))
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
        self._is_controller_still = packet.stalled_s > 0
        if self._channel.receive(packet.seq, packet.ack, now):
            for message in packet.messages:
                if isinstance(message, Welcome) and not self.is_welcome:
                    self._use(dialled, message)
                orders.append(message)

    def _take_enrolled(self, enrolled: Enrolled, now: float) -> None:
        """Dial anew with the agent's own keys, which the controller knows now; a repeated answer is ignored."""
        if self._connections.use_new_key(enrolled.key):
            self._last_heard = now
            self._begin_session(now)

    def _use(self, dialled: Dialled, welcome: Welcome) -> None:
        """Keep this address, which works: close the others, and send logs the same way."""
        self.is_welcome = True
        self._heartbeat_s = welcome.heartbeat_s
        self._orphan_grace_s = welcome.orphan_grace_s
        self._used_endpoint = dialled.endpoint
        if welcome.controller_pid is not None:
            self.listeners.on_controller(welcome.controller_pid)
            self._controller_pid = self._controller_pid and welcome.controller_pid  # None: on another machine
        self._connections.keep(dialled)
        self._has_new_session = True

    def _put(self, numbered: Numbered[FromAgent], now: float, standstill: Standstill = MOVES) -> None:
        self._last_sent = now
        packet = _packet(self._session, numbered, standstill)
        self._connections.send(self._connections.dialled[0], encode(packet))


def _packet(session: str, numbered: Numbered[FromAgent], standstill: Standstill) -> FromAgentPacket:
    return FromAgentPacket(
        session=session,
        seq=numbered.seq,
        ack=numbered.ack,
        messages=numbered.messages,
        stalled_s=standstill.seconds,
        stalled_in=standstill.doing,
    )
