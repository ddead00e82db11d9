"""The wire format: golden samples, ignored fields, refused frames."""

import msgspec
import pytest

from protocol.errors import MalformedMessageError
from protocol.messages.base import Message
from protocol.messages.facts import FromAgent
from protocol.messages.orders import ToAgent
from protocol.messages.packets import FromAgentPacket, LogAnswer, ToAgentPacket
from protocol.session import codec
from protocol.session.version import is_compatible
from tests.unit.protocol.samples import FROM_AGENT, LOGS, RANK, TO_AGENT


@pytest.mark.parametrize("message", TO_AGENT, ids=lambda message: type(message).__name__)
def test_orders_survive_the_wire(message: ToAgent) -> None:
    packet = ToAgentPacket(session="s", incarnation=1, seq=4, ack=3, messages=(message,))
    assert codec.decode_to_agent(codec.encode(packet)) == (packet, 0)


@pytest.mark.parametrize("message", FROM_AGENT, ids=lambda message: type(message).__name__)
def test_facts_survive_the_wire(message: FromAgent) -> None:
    packet = FromAgentPacket(session="s", seq=4, ack=3, messages=(message,))
    assert codec.decode_from_agent(codec.encode(packet)) == (packet, 0)


def test_log_headers_survive_the_wire() -> None:
    for message in LOGS:
        is_answer = isinstance(message, LogAnswer)
        decode = codec.decode_log_answer if is_answer else codec.decode_log_frame
        assert decode(codec.encode(message)) == message


def test_an_unknown_field_is_ignored() -> None:
    raw = msgspec.msgpack.encode(
        {"session": "s", "colour": 7, "messages": [{"type": "unwatch", "rank": RANK, "new": 1}]}
    )
    packet, unknown = codec.decode_to_agent(_with_incarnation(raw))
    assert unknown == 0
    assert type(packet.messages[0]).__name__ == "Unwatch"


def _with_incarnation(raw: bytes) -> bytes:
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(raw), "incarnation": 1})


def test_an_unknown_message_is_dropped_alone() -> None:
    known = msgspec.to_builtins(FROM_AGENT[0])
    raw = msgspec.msgpack.encode({"session": "s", "seq": 1, "messages": [{"type": "from_the_future"}, known]})
    packet, unknown = codec.decode_from_agent(raw)
    assert unknown == 1
    assert packet.seq == 1
    assert packet.messages == (FROM_AGENT[0],)


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x00", b"\xc1", b"\x81\xa1", b"hello", bytes(1000), msgspec.msgpack.encode([1, 2]), b"\xff" * 50],
)
def test_garbage_is_malformed(frame: bytes) -> None:
    for decode in (
        codec.decode_to_agent,
        codec.decode_from_agent,
        codec.decode_log_frame,
        codec.decode_log_answer,
    ):
        with pytest.raises(MalformedMessageError):
            decode(frame)


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"], ids=["arrays", "maps"])
def test_s5_a_packet_nested_without_end_is_malformed(opening: bytes) -> None:
    deep = opening * 100_000 + b"\xc0"
    frames = (deep, b"\x82\xa7session\xa1s\xa3new" + deep, b"\x82\xa7session\xa1s\xa8messages\x91" + deep)
    for frame in frames:
        for decode in (
            codec.decode_to_agent,
            codec.decode_from_agent,
            codec.decode_log_frame,
            codec.decode_log_answer,
            codec.decode_config,
            codec.decode_step_config,
        ):
            with pytest.raises(MalformedMessageError):
                decode(frame)


def test_a_wrong_type_in_a_field_is_malformed() -> None:
    with pytest.raises(MalformedMessageError):
        codec.decode_from_agent(msgspec.msgpack.encode({"session": 7}))


def test_only_majors_must_be_equal() -> None:
    assert is_compatible((1, 0), (1, 9))
    assert not is_compatible((1, 0), (2, 0))


def test_messages_cannot_be_changed() -> None:
    message: Message = FROM_AGENT[0]
    with pytest.raises(AttributeError):
        message.pid = 5  # type: ignore[attr-defined]
