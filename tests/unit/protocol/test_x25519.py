"""Public keys without ZeroMQ: those of RFC 7748 and of ZeroMQ's RFC 32, and what ZeroMQ itself makes of random keys."""

import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from zmq.utils import z85 as theirs

from protocol.session.x25519 import public_of, z85

BOB = (
    # RFC 7748, 6.1
    "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
)


def test_the_public_half_is_that_of_the_standard() -> None:
    secret, public = BOB
    assert public_of(bytes.fromhex(secret)).hex() == public


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32))
def test_both_halves_are_what_zeromq_makes_of_them(secret: bytes) -> None:
    assert z85(secret) == theirs.encode(secret)
    assert z85(public_of(secret)) == zmq.curve_public(theirs.encode(secret))


def test_text_is_that_of_the_standard() -> None:
    assert z85(bytes.fromhex("864fd26fb559f75b")) == b"HelloWorld"
    assert z85(b"") == b""
