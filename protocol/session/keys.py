"""The first secret keys of a job step's agents, from one seed: they are started alike, so each derives its own.

Both sides use it. An agent replaces its key with its first hello (`Hello.key`).
"""

import hashlib

SEED_BYTES = 32


def agent_secret(seed: bytes, node: int) -> bytes:
    """The 32 bytes of a node's CURVE secret key. Any 32 bytes are one (X25519 clamps them itself)."""
    return hashlib.blake2b(str(node).encode(), key=seed, person=b"sflow-agent", digest_size=32).digest()
