"""The CURVE keys of one run: made in memory before any socket exists, never written but for the viewer's."""

from dataclasses import dataclass

import zmq


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """Z85 text, 40 characters each. Has no repr: a traceback must not print a secret."""

    public: str
    secret: str

    @classmethod
    def make(cls) -> "KeyPair":
        """A new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())


@dataclass(frozen=True, slots=True, repr=False)
class RunKeys:
    """One pair for the controller, one per agent, one for all who only look."""

    controller: KeyPair
    agents: tuple[KeyPair, ...]
    viewer: KeyPair

    @classmethod
    def make(cls, agent_count: int) -> "RunKeys":
        """All keys of a run with that many agents."""
        return cls(KeyPair.make(), tuple(KeyPair.make() for _ in range(agent_count)), KeyPair.make())
