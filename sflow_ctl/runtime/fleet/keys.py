"""The CURVE keys of one run: made in memory before any socket exists, never written but for the viewer's and the operator's.

The memory of the process that makes them is hidden from others of the same user. ZeroMQ, which makes keys, is imported by runs
whose agents need them.
"""

import os
from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from protocol.session.x25519 import public_of, z85

SECRET_BYTES = 32


class KeyPair(Struct, frozen=True):
    """Z85 text, 40 characters each. Has no repr: a traceback must not print a secret."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return "KeyPair(...)"

    @classmethod
    def make(cls) -> "KeyPair":
        """Return a new pair."""
        import zmq

        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    @classmethod
    def of(cls, secret: bytes) -> "KeyPair":
        """Return the pair of a secret key of 32 bytes."""
        import zmq

        text = z85(secret)
        return cls(zmq.curve_public(text).decode(), text.decode())


class RunKeys(Struct, frozen=True):
    """One pair for the controller, one per agent, one for all who only look, one for those who may change the run.

    Agents of a job step have none of `agents`: they enrol with a key that is derived from `seed` and make their own.
    """

    controller: KeyPair
    agents: tuple[KeyPair, ...]
    """Empty where agents have doors."""
    viewer: str
    """The secret, Z85; the public half follows from it."""
    operator: str
    seed: bytes = b""
    """What the keys for enrolment are derived from: a job step hands it to all of its agents, in an environment."""
    enrolment: Mapping[int, KeyPair] = field(default_factory=dict)
    """By node: each good for naming the key that the node's agent has made itself, until all have reported."""

    def __repr__(self) -> str:
        return "RunKeys(...)"

    @classmethod
    def make(cls, agent_count: int) -> "RunKeys":
        """Return all keys of a run with that many agents."""
        agents = tuple(KeyPair.make() for _ in range(agent_count))
        return cls(KeyPair.make(), agents, viewer=_secret(), operator=_secret())

    @classmethod
    def for_clients(cls) -> "RunKeys":
        """The same for a run whose agents need none, without ZeroMQ."""
        secret = os.urandom(SECRET_BYTES)
        controller = KeyPair(z85(public_of(secret)).decode(), z85(secret).decode())
        return cls(controller, (), viewer=_secret(), operator=_secret())

    def of_agent(self, node: int) -> KeyPair:
        """Return the keys of a node's agent; empty ones where it needs none."""
        return self.agents[node] if self.agents else KeyPair("", "")

    @classmethod
    def for_step(cls, agent_count: int, in_step: Iterable[int]) -> "RunKeys":
        """The same for a run of which the nodes `in_step` have agents that are started alike, by a job step."""
        from protocol.session.keys import SEED_BYTES, agent_secret  # OpenSSL: not for a laptop's first task

        seed = os.urandom(SEED_BYTES)
        enrolment = {node: KeyPair.of(agent_secret(seed, node)) for node in in_step}
        return replace(cls.make(agent_count), seed=seed, enrolment=enrolment)


def _secret() -> str:
    """Return a new secret key. Any 32 bytes are one: X25519 clamps them."""
    return z85(os.urandom(SECRET_BYTES)).decode()
