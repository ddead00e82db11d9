"""Opens an agent's sockets towards the controller, and reads what comes on the one for logs. Used by `link.py`."""

import socket
from collections import Counter

import zmq
from msgspec import Struct
from zmq.utils import z85

from protocol.errors import MalformedMessageError
from protocol.messages.logs import LogAck
from protocol.session.codec import MAX_FRAME_BYTES, decode_log_ack

REFUSED_WITHIN_S = 0.2
CONNECT_MS = 5000
"""The limit for an address that drops packets silently; a later packet may pass."""
HANDSHAKE_MS = 30_000
"""Three round trips, and a controller that has a thousand hellos to read, or is suspended, before it answers.

An agent that gives up sooner only joins the end of the queue again.
"""


class Dialled(Struct):
    """One address of the controller."""

    control: "zmq.Socket[bytes]"
    endpoint: str
    log_endpoint: str
    own_address: str
    """This node's address on the way there."""


def own_keys(seed: bytes, node: int) -> tuple[str, str]:
    """Return (public, secret) of a node's agent, Z85."""
    from protocol.session.keys import agent_secret  # OpenSSL: only in a job step

    secret = z85.encode(agent_secret(seed, node))
    return zmq.curve_public(secret).decode(), secret.decode()


def own_address(endpoint: str) -> str:
    """Return the address from which packets to `endpoint` leave; empty without a route."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as candidate:
            candidate.connect((host.strip("[]"), int(port)))  # sends nothing: it only asks the routing table
            return str(candidate.getsockname()[0])
    except OSError:
        return ""


def is_refused(endpoint: str) -> bool:
    """Return whether the host of an address says that nothing listens there: the process that did has died."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REFUSED_WITHIN_S):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def log_acks(logs: "zmq.Socket[bytes] | None", counters: "Counter[str]") -> list[LogAck]:
    """Return how much the controller has of each log."""
    acks = []
    while logs is not None:
        try:
            frame = logs.recv(zmq.NOBLOCK)
        except zmq.Again:
            break
        try:
            acks.append(decode_log_ack(frame))
        except MalformedMessageError:
            counters["malformed"] += 1
    return acks


def dealer(
    context: "zmq.Context[zmq.Socket[bytes]]", controller_key: str, keys: tuple[bytes, bytes], endpoint: str
) -> "zmq.Socket[bytes]":
    """Return a socket that connects to an endpoint of the controller."""
    made = context.socket(zmq.DEALER)
    made.linger = 0
    made.ipv6 = "[" in endpoint
    made.curve_serverkey = controller_key.encode()
    made.curve_publickey, made.curve_secretkey = keys
    made.maxmsgsize = MAX_FRAME_BYTES
    made.sndhwm = made.rcvhwm = 10_000
    made.connect_timeout = CONNECT_MS
    made.handshake_ivl = HANDSHAKE_MS
    made.reconnect_ivl = 50
    made.reconnect_ivl_max = 1000
    made.connect(endpoint)
    return made
