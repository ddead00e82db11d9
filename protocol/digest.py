"""SHA-256, without OpenSSL. Used where a run, or its page, needs one digest."""

from importlib import import_module


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of some bytes.

    By the interpreter's own module, as `random` does: `hashlib` loads OpenSSL, which takes 4 ms of each run.
    """
    for name in ("_sha2", "_sha256", "hashlib"):
        try:
            return bytes(import_module(name).sha256(data).digest())
        except ImportError:
            continue
    raise ImportError("this interpreter has no SHA-256")
