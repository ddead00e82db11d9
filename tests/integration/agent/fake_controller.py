"""A small controller for tests of real agents: two CURVE routers, the channel, the messages of the agent."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import zmq

from protocol.ids import AttemptId, RankId
from protocol.messages.checks import Probe
from protocol.messages.config import AgentConfig
from protocol.messages.facts import FromAgent, Hello, RankCleared, RankExited, RankStarted
from protocol.messages.orders import Enrolled, Leave, Spawn, Stop, ToAgent, Welcome
from protocol.messages.packets import LogAck, LogChunk, ToAgentPacket
from protocol.messages.rank_spec import HangPolicy, RankSpec, Stopping
from protocol.session.channel import Channel
from protocol.session.codec import decode_from_agent, decode_log_frame, encode
from sflow_ctl.runtime.handover.file_store import FileStore

DEADLINE_S = 10.0
M = TypeVar("M", bound=FromAgent)


def rank_id(task: str, attempt: int = 1, rank: int = 0) -> RankId:
    return RankId(AttemptId(task, attempt), rank)


def spec(
    task: str,
    *argv: str,
    attempt: int = 1,
    rank: int = 0,
    env: dict[str, str] | None = None,
    cwd: str | None = None,
    grace_s: float = 0.3,
    probes: tuple[Probe, ...] = (),
    stream: bool = False,
    earlier_log: str | None = None,
    stopping: Stopping | None = None,
    hang: HangPolicy | None = None,
) -> RankSpec:
    return RankSpec(
        rank=rank_id(task, attempt, rank),
        argv=argv,
        env=env or {},
        cwd=cwd,
        log=f"{task}/{task}.log" if rank == 0 else f"{task}/{task}.rank-{rank}.log",
        stopping=stopping or Stopping(grace_s=grace_s),
        hang=hang,
        probes=probes,
        stream=stream,
        earlier_log=earlier_log,
    )


class FakeController:
    """Bound before its agent starts. `turn` is one pass of its loop; `until` waits for a condition."""

    def __init__(self, directory: Path, *, orphan_grace_s: float = 10.0, heartbeat_s: float = 0.5) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.orphan_grace_s, self.heartbeat_s = orphan_grace_s, heartbeat_s
        self.public, self.secret = zmq.curve_keypair()
        self.agent_public, self.agent_secret = zmq.curve_keypair()
        self.nonce = secrets.token_hex(8)
        self.marker = f"test-{secrets.token_hex(6)}"
        (directory / ".sflow").mkdir(parents=True, exist_ok=True)
        (directory / ".sflow/nonce").write_text(self.nonce)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.control, self.control_endpoint = self._router()
        self.logs, self.log_endpoint = self._router()
        self.incarnation = 1
        self.identity = b""
        self.log_identity = b""
        self.session = ""
        self.channel: Channel[ToAgent] = Channel()
        self.hellos: list[Hello] = []
        self.facts: list[FromAgent] = []
        self.received: dict[RankId, bytearray] = {}
        self.ended_logs: set[RankId] = set()
        self.chunks = 0
        self.standstills: list[tuple[float, str]] = []
        """(seconds, what holds it up) of packets of an agent whose loop stands still."""
        self.is_mute = False
        """Receives and sends nothing, as a hanging controller."""
        self.acknowledges_logs = True
        self.files = FileStore(directory)
        """Its run directory, for an agent with another one."""
        self.process: subprocess.Popen[bytes] | None = None

    def _router(self) -> tuple["zmq.Socket[bytes]", str]:
        socket = self.context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self.public, self.secret
        socket.router_handover = 1
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        return socket, f"tcp://127.0.0.1:{port}"

    # ------------------------------------------------------------------ the agent's process

    def config(self, **changes: object) -> AgentConfig:
        fields: dict[str, object] = {
            "run_id": f"run-{self.marker}",
            "node": 0,
            "node_name": "n0",
            "control_endpoints": (self.control_endpoint,),
            "log_endpoints": (self.log_endpoint,),
            "controller_key": self.public.decode(),
            "public_key": self.agent_public.decode(),
            "secret_key": self.agent_secret.decode(),
            "marker": self.marker,
            "run_directory": str(self.directory),
            "nonce": self.nonce,
            "orphan_grace_s": self.orphan_grace_s,
        }
        return AgentConfig(**{**fields, **changes})  # type: ignore[arg-type]

    def start(
        self, env: dict[str, str] | None = None, before: tuple[str, ...] = (), **changes: object
    ) -> "FakeController":
        """Starts the agent, by way of the command `before`, and hands it its configuration; does not wait for it."""
        self.process = subprocess.Popen(
            (*before, sys.executable, "-I", "-m", "sflow_agent"),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(encode(self.config(**changes)))
        self.process.stdin.close()
        return self

    def start_below_a_shell(self, before: tuple[str, ...] = ()) -> None:
        """Start the agent below a shell, which stands for the controller's process: the agent watches that."""
        config = self.directory / ".config"
        self.process = subprocess.Popen(
            (
                "sh",
                "-c",
                'c=$1; shift; while [ ! -s "$c" ]; do sleep 0.01; done; "$@" < "$c" & wait',
                "sh",
                str(config),
                *before,
                sys.executable,
                "-I",
                "-m",
                "sflow_agent",
            ),
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        part = self.directory / ".config.part"
        part.write_bytes(encode(self.config(controller_pid=self.process.pid)))
        part.rename(config)

    @property
    def guardian(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def agent(self) -> int:
        assert self.hellos
        return self.hellos[-1].pid

    def exit_status(self, within_s: float = DEADLINE_S) -> int:
        """Wait for the guardian's end, while the loop continues."""
        assert self.process is not None
        self.until(lambda: self.process is not None and self.process.poll() is not None, "its exit", within_s)
        return self.process.returncode

    def stderr(self) -> str:
        assert self.process is not None
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def close(self) -> None:
        """End everything, in any state."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.terminate()
                deadline = time.monotonic() + DEADLINE_S
                while self.process.poll() is None and time.monotonic() < deadline:
                    self.turn()
                if self.process.poll() is None:
                    self.process.kill()
                    self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()
        self.control.close()
        self.logs.close()
        self.context.term()
        for pid in marked(self.marker):
            os.kill(pid, 9)

    # ------------------------------------------------------------------ the loop

    def turn(self, timeout_ms: int = 10) -> None:
        """Take what has arrived, answer hellos, acknowledge."""
        if self.is_mute:
            time.sleep(timeout_ms / 1000)
            return
        self.control.poll(timeout_ms if not self.logs.poll(0) else 0)
        now = time.monotonic()
        while self.control.poll(0):
            identity, frame = self.control.recv_multipart()
            self._take(identity, frame, now)
        self._take_logs()
        if self.channel.owes_ack and self.identity:
            self._put(self.channel.heartbeat())
        for numbered in self.channel.overdue(now):
            self._put(numbered)

    def _take(self, identity: bytes, frame: bytes, now: float) -> None:
        packet = decode_from_agent(frame).packet
        if packet.stalled_s:
            self.standstills.append((packet.stalled_s, packet.stalled_in))
        if packet.messages and isinstance(packet.messages[0], Hello):
            hello = packet.messages[0]
            if hello.key:  # an agent of a job step: it comes again with a key of its own
                answer = ToAgentPacket(
                    session=hello.session, incarnation=self.incarnation, messages=(Enrolled(key=hello.key),)
                )
                self.control.send_multipart((identity, encode(answer)))
                return
            self.hellos.append(hello)
            if hello.session != self.session:
                self.session, self.identity, self.channel = hello.session, identity, Channel()
                self.order(
                    Welcome(
                        session=hello.session,
                        incarnation=self.incarnation,
                        heartbeat_s=self.heartbeat_s,
                        orphan_grace_s=self.orphan_grace_s,
                    )
                )
            return
        if packet.session == self.session:
            self.identity = identity  # another one once the connection has been made anew
        if packet.session == self.session and self.channel.receive(packet.seq, packet.ack, now):
            self.facts.extend(packet.messages)
        elif packet.session == self.session and packet.seq == 0:
            self._put(self.channel.heartbeat())  # keeps the agent's trust without a clock of our own

    def _take_logs(self) -> None:
        acks: dict[RankId, int] = {}
        for _ in range(64):
            if not self.logs.poll(0):
                break
            self.log_identity, header, body = self.logs.recv_multipart()
            chunk = decode_log_frame(header)
            if not isinstance(chunk, LogChunk):
                answer, given = self.files.take(0, chunk, body)
                self.logs.send_multipart((self.log_identity, encode(answer), given))
                continue
            self.chunks += 1
            log = self.received.setdefault(chunk.rank, bytearray())
            if chunk.offset <= len(log):
                log += body[len(log) - chunk.offset :]
            if chunk.is_end:
                self.ended_logs.add(chunk.rank)
            acks[chunk.rank] = len(log)
        for rank, offset in acks.items() if self.acknowledges_logs else ():
            self.logs.send_multipart((self.log_identity, encode(LogAck(rank=rank, offset=offset))))

    def order(self, *messages: ToAgent) -> None:
        self._put(self.channel.send(messages, time.monotonic()))

    def _put(self, numbered: object) -> None:
        packet = ToAgentPacket(
            session=self.session,
            incarnation=self.incarnation,
            seq=numbered.seq,  # type: ignore[attr-defined]
            ack=numbered.ack,  # type: ignore[attr-defined]
            messages=numbered.messages,  # type: ignore[attr-defined]
        )
        self.control.send_multipart((self.identity, encode(packet)))

    def until(self, condition: Callable[[], object], what: str, within_s: float = DEADLINE_S) -> None:
        """Turn until the condition holds; fail after `within_s` with the last messages."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come; last said: {self.facts[-3:]}"
            self.turn()

    # ------------------------------------------------------------------ shorthands

    def welcome(self) -> "FakeController":
        """Waits until the agent is in a session."""
        self.until(lambda: self.session and self.channel.is_idle, "a session")
        return self

    def spawn(self, *specs: RankSpec) -> None:
        self.order(Spawn(ranks=specs))

    def stop(self, task: str, attempt: int = 1, grace_s: float = 0.3) -> None:
        self.order(Stop(attempt=AttemptId(task, attempt), grace_s=grace_s))

    def said(self, kind: type[M]) -> list[M]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def started(self, task: str, attempt: int = 1, rank: int = 0) -> RankStarted:
        return self._one(RankStarted, rank_id(task, attempt, rank))

    def exited(self, task: str, attempt: int = 1, rank: int = 0) -> RankExited:
        return self._one(RankExited, rank_id(task, attempt, rank))

    def cleared(self, task: str, attempt: int = 1, rank: int = 0) -> RankCleared | RankExited:
        """Wait until no process of the rank is left; return the fact."""
        ended = self.exited(task, attempt, rank)
        return ended if ended.cleared else self._one(RankCleared, rank_id(task, attempt, rank))

    def _one(self, kind: type[M], rank: RankId) -> M:
        found: list[M] = []

        def has_come() -> bool:
            found.extend(fact for fact in self.said(kind) if getattr(fact, "rank", None) == rank)
            return bool(found)

        self.until(has_come, f"{kind.__name__} of {rank}")
        return found[0]

    def log(self, task: str) -> str:
        return (self.directory / task / f"{task}.log").read_text()

    def leave(self) -> int:
        """Ends the run in order; the guardian's exit status. It looks for processes that cannot be killed for up to 10 s."""
        self.order(Leave())
        return self.exit_status(within_s=30.0)


def marked(marker: str) -> list[int]:
    """Living processes that carry a run's marker."""
    wanted = f"SFLOW_RUN_MARKER={marker}".encode()
    return [pid for pid in _pids() if wanted in _environ(pid) and is_alive(pid)]


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def state(pid: int) -> str:
    """The letter of proc(5); empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    return state(pid) not in ("", "Z", "X")
