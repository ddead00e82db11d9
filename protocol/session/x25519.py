"""The public half of a key of Curve25519, and its text, for a process that has not loaded ZeroMQ.

A run on one machine needs one such key before its first task, for viewers that may come; to load ZeroMQ for that takes ten
times as long. How long this takes depends on the secret: the process that has made it calls this once, before anyone connects.
Source: RFC 7748, section 5; ZeroMQ RFC 32 (Z85).
"""

_PRIME = 2**255 - 19
_A24 = 121665
_BASE = 9
_ALPHABET = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def public_of(secret: bytes) -> bytes:
    """Return the public key of a secret of 32 bytes, which may be any."""
    scalar = int.from_bytes(secret, "little") & ~7 & ((1 << 255) - 1) | 1 << 254
    x2, z2, x3, z3 = 1, 0, _BASE, 1
    was_set = 0
    for position in range(254, -1, -1):
        is_set = scalar >> position & 1
        if is_set != was_set:
            x2, x3, z2, z3 = x3, x2, z3, z2
            was_set = is_set
        total, difference = x2 + z2, x2 - z2
        square, other_square = total * total % _PRIME, difference * difference % _PRIME
        crossed, other_crossed = (x3 - z3) * total, (x3 + z3) * difference
        x3, z3 = (crossed + other_crossed) ** 2 % _PRIME, _BASE * (crossed - other_crossed) ** 2 % _PRIME
        excess = square - other_square
        x2, z2 = square * other_square % _PRIME, excess * (square + _A24 * excess) % _PRIME
    # The lowest bit of a scalar is never set, so the pairs are in their places.
    return (x2 * pow(z2, _PRIME - 2, _PRIME) % _PRIME).to_bytes(32, "little")


def z85(content: bytes) -> bytes:
    """Return bytes, in fours, as text of five letters each."""
    letters = bytearray()
    for at in range(0, len(content), 4):
        number = int.from_bytes(content[at : at + 4], "big")
        for power in (52200625, 614125, 7225, 85, 1):
            letters.append(_ALPHABET[number // power % 85])
    return bytes(letters)
