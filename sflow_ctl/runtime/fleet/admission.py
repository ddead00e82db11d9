"""Who may connect: the ZeroMQ authenticator of a run, the keys of its agents, and how a job step's agents get their own.

Denies by default. ZAP 1.0 (ZeroMQ RFC 27): libzmq asks on an inproc socket for every handshake; the answer is a callback
of the controller's loop, as pyzmq's authenticator needs an asyncio loop or a thread of its own.

A job step starts all agents alike, so their first keys are derived from a seed in its environment, which srun keeps
where every process of the user can read it. Such a key is good for one thing: a hello that names a key which the agent
has made in its own memory. It is void once all agents have reported, which is before the first task. Used by `link`.
"""

from pathlib import Path

import zmq
from zmq.utils import z85

from protocol.messages.facts import Hello
from protocol.messages.orders import Enrolled, Refused
from protocol.session.version import PROTOCOL_VERSION, is_compatible
from sflow_ctl.runtime.fleet.keys import RunKeys

ZAP_ENDPOINT = "inproc://zeromq.zap.01"


class Authenticator:
    """Answers the library's questions with the keys each domain (socket) allows."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ZAP_ENDPOINT)
        self._allowed: dict[str, set[bytes]] = {}
        self._revoked: set[bytes] = set()
        self.denied = 0
        """The number of unauthenticated connections."""
        self.denied_revoked = 0
        """Connections with a key that was good once."""

    def allow(self, domain: str, public_key: str) -> None:
        """Let the holder of this key's secret half use the socket whose `zap_domain` is `domain`."""
        self._allowed.setdefault(domain, set()).add(z85.decode(public_key))

    def revoke(self, public_key: str) -> None:
        """Let the holder of this key connect nowhere any more. Connections that it has stay."""
        key = z85.decode(public_key)
        self._revoked.add(key)
        for keys in self._allowed.values():
            keys.discard(key)

    def answer_all(self) -> None:
        """Answer every waiting question; never block."""
        while self.socket.poll(0):
            self._answer(self.socket.recv_multipart())

    def close(self) -> None:
        """Stop answering: new handshakes fail."""
        self.socket.close()

    def _answer(self, request: list[bytes]) -> None:
        if len(request) < 6 or request[0] != b"1.0":
            self._reply(request[1] if len(request) > 1 else b"", b"500", b"bad request", b"")
            return
        request_id, domain, mechanism = request[1], request[2], request[5]
        key = request[6] if mechanism == b"CURVE" and len(request) > 6 else b""
        if key in self._allowed.get(domain.decode(errors="replace"), ()):
            self._reply(request_id, b"200", b"OK", z85.encode(key))
        else:
            if key in self._revoked:
                self.denied_revoked += 1
            else:
                self.denied += 1
            self._reply(request_id, b"400", b"unknown key", b"")

    def _reply(self, request_id: bytes, status: bytes, text: bytes, user_id: bytes) -> None:
        self.socket.send_multipart((b"1.0", request_id, status, text, user_id, b""))


class Admission:
    """The agents' keys, and what each may do."""

    def __init__(self, keys: RunKeys, auth: Authenticator) -> None:
        self._auth = auth
        self.refused = 0
        """Hellos that named no usable key, or one for a node whose agent has another."""
        self._node_of_key: dict[str, int] = {}
        self._enrolment = {pair.public: node for node, pair in keys.enrolment.items()}
        for node, pair in enumerate(keys.agents):
            if node not in keys.enrolment:
                self._admit(node, pair.public)
        for key in self._enrolment:
            auth.allow("control", key)
        auth.allow("clients", keys.viewer.public)

    def node_of_key(self, key: str) -> int | None:
        """Return the node whose agent has this key of its own."""
        return self._node_of_key.get(key)

    def node_to_enrol(self, key: str) -> int | None:
        """Return the node whose agent may name its own key by means of this one."""
        return self._enrolment.get(key)

    def enrol(self, node: int, hello: Hello) -> Enrolled | Refused:
        """Take the key that a job step's agent has made itself. The first one of a node counts."""
        known = next((key for key, of in self._node_of_key.items() if of == node), None)
        if known is None and _is_key(hello.key):
            self._admit(node, hello.key)
        elif known is None or known != hello.key:
            reason = (
                f"node {node} has an agent already, with another key" if known else "its hello names no key"
            )
            return Refused(code="not-enrolled", reason=reason)
        return Enrolled(key=hello.key)

    def restart_enrolment(self) -> None:
        """Let the agents of a job step that is started again name new keys; those of the earlier ones are void."""
        nodes = set(self._enrolment.values())
        for key, node in list(self._node_of_key.items()):
            if node in nodes:
                del self._node_of_key[key]
                self._auth.revoke(key)

    def end_enrolment(self) -> None:
        """Void the keys of the job step's environment: from now on tasks run, which can read it from srun."""
        for key in self._enrolment:
            self._auth.revoke(key)
        self._enrolment.clear()

    def _admit(self, node: int, key: str) -> None:
        self._node_of_key[key] = node
        self._auth.allow("control", key)
        self._auth.allow("logs", key)


def _is_key(text: str) -> bool:
    """Return whether a text is a public CURVE key: 32 bytes as Z85."""
    try:
        return len(text) == 40 and len(z85.decode(text)) == 32
    except (ValueError, KeyError):
        return False


def version_mismatch(hello: Hello) -> str | None:
    """Return why an agent's version cannot be talked to; None when it can."""
    if is_compatible(PROTOCOL_VERSION, hello.version):
        return None
    ours, theirs = (".".join(map(str, version)) for version in (PROTOCOL_VERSION, hello.version))
    here = Path(__file__).resolve().parents[3]
    return f"the controller speaks protocol {ours} ({here}), the agent {theirs} ({hello.install_path})"
