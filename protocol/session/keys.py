"""Derives the agents' secret keys from one seed: a job step starts all agents alike, so each derives its own."""

import hashlib

SEED_BYTES = 32


def agent_secret(seed: bytes, node: int) -> bytes:
    """Return the 32 bytes of a node's CURVE secret key. Any 32 bytes are valid (X25519 clamps them itself)."""
    return hashlib.blake2b(str(node).encode(), key=seed, person=b"sflow-agent", digest_size=32).digest()
