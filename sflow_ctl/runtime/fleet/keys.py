"""The CURVE keys of one run: made in memory before any socket exists, never written but for the viewer's and the operator's.

The memory of the process that makes them is hidden from others of the same user.
"""

import os
from collections.abc import Iterable, Mapping

import zmq
from msgspec import Struct, field
from msgspec.structs import replace
from zmq.utils import z85

_PR_SET_DUMPABLE = 4


def hide_memory() -> None:
    """Keep this process's memory, environment and descriptors from other processes of the same user, its tasks included.

    Programs that it starts are not affected. It leaves no core file, and debuggers of the same user cannot attach.
    Source: prctl(2). Raises: OSError.
    """
    import ctypes  # 2 ms, for runs only

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


class KeyPair(Struct, frozen=True):
    """Z85 text, 40 characters each. Has no repr: a traceback must not print a secret."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return "KeyPair(...)"

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


class RunKeys(Struct, frozen=True):
    """One pair for the controller, one per agent, one for all who only look, one for those who may change the run.

    Agents of a job step have none of `agents`: they enrol with a key that is derived from `seed` and make their own.
    """

    controller: KeyPair
    agents: tuple[KeyPair, ...]
    viewer: KeyPair
    operator: KeyPair

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
        return cls(KeyPair.make(), agents, viewer=KeyPair.make(), operator=KeyPair.make())

    @classmethod
    def for_step(cls, agent_count: int, in_step: Iterable[int]) -> "RunKeys":
        """The same for a run of which the nodes `in_step` have agents that are started alike, by a job step."""
        from protocol.session.keys import SEED_BYTES, agent_secret  # OpenSSL: not for a laptop's first task

        seed = os.urandom(SEED_BYTES)
        enrolment = {node: KeyPair.of(agent_secret(seed, node)) for node in in_step}
        return replace(cls.make(agent_count), seed=seed, enrolment=enrolment)
