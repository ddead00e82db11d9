"""The CURVE keys of one run: made in memory before any socket exists; only the viewer's are ever written."""

import os
from dataclasses import dataclass

import zmq
from zmq.utils import z85


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """Z85 text, 40 characters each. Has no repr: a traceback must not print a secret."""

    public: str
    secret: str

    @classmethod
    def make(cls) -> "KeyPair":
        """Return a new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    @classmethod
    def of(cls, secret: bytes) -> "KeyPair":
        """Return the pair of a secret key of 32 bytes."""
        text = z85.encode(secret)
        return cls(zmq.curve_public(text).decode(), text.decode())


@dataclass(frozen=True, slots=True, repr=False)
class RunKeys:
    """One pair for the controller, one per agent, one for all viewers."""

    controller: KeyPair
    agents: tuple[KeyPair, ...]
    viewer: KeyPair

    seed: bytes = b""
    """The seed of the agents' keys, if they are derived: a job step hands it to all of them."""

    @classmethod
    def make(cls, agent_count: int) -> "RunKeys":
        """Return all keys of a run with that many agents."""
        return cls(KeyPair.make(), tuple(KeyPair.make() for _ in range(agent_count)), KeyPair.make())

    @classmethod
    def derived(cls, agent_count: int) -> "RunKeys":
        """Return the same for agents that are started alike and derive their own keys from the seed."""
        from protocol.session.keys import (
            SEED_BYTES,
            agent_secret,
        )  # loads OpenSSL: too slow for the first task on a laptop

        seed = os.urandom(SEED_BYTES)
        agents = tuple(KeyPair.of(agent_secret(seed, node)) for node in range(agent_count))
        return cls(KeyPair.make(), agents, KeyPair.make(), seed)
