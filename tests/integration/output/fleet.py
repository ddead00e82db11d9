"""An output service with real sockets, and agents that are only their log socket."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import zmq

from protocol.ids import AttemptId, RankId
from protocol.messages.packets import LogAck, LogChunk
from protocol.session.codec import decode_log_answer, encode
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.runtime.fleet.keys import KeyPair, RunKeys
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.logs.consumers.console import ConsoleSink
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.operating.desk import RequestDesk
from sflow_ctl.runtime.peers.peer import LinkTimes
from sflow_ctl.runtime.transport.client_port import ClientPort
from sflow_ctl.runtime.transport.network import NetworkTransport

DEADLINE_S = 10.0


def rank_of(task: str, attempt: int = 1, rank: int = 0) -> RankId:
    return RankId(AttemptId(task, attempt), rank)


def change(task: str, new: TaskState, attempt: int = 1, old: TaskState = TaskState.QUEUED) -> Transition:
    return Transition(task=task, attempt=attempt, old=old, new=new, reason=Reason("started"), node=0)


def pair_of(secret: str) -> KeyPair:
    """Return a secret key with its public half."""
    return KeyPair(zmq.curve_public(secret.encode()).decode(), secret)


class Controller:
    """The main thread's part: answers the authenticator, and takes completed logs."""

    def __init__(self, directory: Path, *, agents: int = 1, console: ConsoleSink | None = None) -> None:
        self.keys = RunKeys.make(agents)
        self.link = FleetLink(NetworkTransport(self.keys, ("127.0.0.1",)), 1, LinkTimes(), time.monotonic())
        self.clients = ClientPort(self.keys, ("127.0.0.1",))
        self.directory = directory
        self.desk = RequestDesk()
        self.places: dict[RankId, int] = {}
        self.output = OutputService(
            gang_sizes={},
            logs=self.link.transport.logs,
            clients=self.clients,
            run_directory=directory,
            log_path_of=lambda rank: log_path(rank.attempt.task),
            console=console,
            desk=self.desk,
            place_of=self.places.get,
        )
        self.desk.wake_sender = self.output.flush
        self.completed: list[RankId] = []
        self.is_closed = False
        self.output.start()

    def __enter__(self) -> "Controller":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, deadline_s: float = DEADLINE_S) -> None:
        if not self.is_closed:
            self.is_closed = True
            assert self.output.close(deadline_s)
            self.clients.close()
            self.link.close()

    def publish(self, transition: Transition) -> None:
        """Show a change of state."""
        self.output.publish(transition)
        self.output.flush()

    def turn(self) -> None:
        """One pass of the main thread's loop."""
        self.link.receive(time.monotonic())
        self.completed.extend(self.output.completed())

    def until(
        self, condition: Callable[[], object], what: str = "condition", within_s: float = DEADLINE_S
    ) -> None:
        """Turn until the condition holds; fail after `within_s`."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come true; counters {self.output.counters}"
            self.turn()
            time.sleep(0.001)


class Agent:
    """One agent's log socket. Keeps its sent chunks, so that it can go back to the last acknowledgement."""

    def __init__(self, controller: Controller, node: int = 0, keys: KeyPair | None = None) -> None:
        pair = keys or controller.keys.agents[node]
        self.node, self._places = node, controller.places
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.curve_serverkey = controller.keys.controller.public.encode()
        self.socket.curve_publickey = pair.public.encode()
        self.socket.curve_secretkey = pair.secret.encode()
        self.socket.connect(controller.link.transport.log_endpoints[0])
        self.acks: dict[RankId, list[int]] = {}

    def close(self) -> None:
        self.socket.close()
        self.context.term()

    def send(
        self,
        rank: RankId,
        offset: int,
        body: bytes,
        *,
        is_spool: bool = True,
        is_end: bool = False,
        is_own: bool = True,
    ) -> None:
        """Send a chunk of a rank that was placed here, unless the agent only claims it."""
        if is_own:
            self._places[rank] = self.node
        header = encode(LogChunk(rank=rank, offset=offset, is_spool=is_spool, is_end=is_end))
        self.socket.send_multipart((header, body))

    def acknowledged(self, rank: RankId) -> int:
        """The last offset acknowledged for this rank; -1 for none."""
        for ack in self.receive():
            self.acks.setdefault(ack.rank, []).append(ack.offset)
        return self.acks.get(rank, [-1])[-1]

    def receive(self) -> list[LogAck]:
        result = []
        while self.socket.poll(0):
            answer = decode_log_answer(self.socket.recv())
            assert isinstance(answer, LogAck)
            result.append(answer)
        return result
