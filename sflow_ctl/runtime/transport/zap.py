"""The ZeroMQ authenticator of a run: decides who may connect. Denies by default.

ZAP 1.0 (ZeroMQ RFC 27): libzmq asks on an inproc socket for every handshake. pyzmq's authenticator needs an
asyncio loop or a thread; this one is a callback of the controller's loop.
"""

import zmq
from zmq.utils import z85

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
