"""Frames to messages and back. The only place that knows the wire format (MessagePack).

A message that is too large, not MessagePack, or not of the expected type is `MalformedMessageError`; the
caller counts and drops it. A message type of a newer minor version is dropped alone, its packet survives.
"""

from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from protocol.errors import MalformedMessageError
from protocol.messages.config import AgentConfig, StepConfig
from protocol.messages.facts import FromAgent
from protocol.messages.orders import ToAgent
from protocol.messages.packets import FromAgentPacket, LogAnswer, LogFrame, ToAgentPacket

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Refused by the socket before it reaches us, and ZeroMQ drops the connection. What is sent stays far below."""
MAX_PACKET_BYTES = 4 * 1024 * 1024
"""A packet of orders over this is sent as several, as far as it can be divided."""
MAX_LOG_BODY_BYTES = 256 * 1024

_encoder = msgspec.msgpack.Encoder()

encode = _encoder.encode


class _RawPacket(msgspec.Struct, kw_only=True):
    """Any packet with its messages left undecoded."""

    session: str
    incarnation: int = 0
    seq: int = 0
    ack: int = 0
    messages: tuple[msgspec.Raw, ...] = ()


_ERRORS = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)
"""RecursionError: a peer's frame may be nested as deep as it is long."""
T = TypeVar("T")


@cache
def _decoder(kind: Any) -> "msgspec.msgpack.Decoder[Any]":
    """Return the decoder of a type, made at its first use: a process reads few of them, and each costs 0.3 ms."""
    return msgspec.msgpack.Decoder(kind)


def prepare_decoders() -> None:
    """Make what an agent decodes with, before it is needed."""
    for kind in (AgentConfig, ToAgentPacket, LogAnswer, _Number):
        _decoder(kind)


class Decoded(NamedTuple, Generic[T]):
    """A packet, and how many of its messages this version does not know."""

    packet: T
    unknown: int


def _malformed(frame: bytes, kind: str, error: Exception) -> MalformedMessageError:
    return MalformedMessageError.of("malformed-message", f"{len(frame)} bytes are not a {kind}: {error}")


def _decode(kind: type[T], frame: bytes, name: str) -> T:
    try:
        decoded: T = _decoder(cast("Any", kind)).decode(frame)
    except _ERRORS as error:
        raise _malformed(frame, name, error) from error
    return decoded


def _known(kind: Any, raw_messages: tuple[msgspec.Raw, ...]) -> tuple[Any, ...]:
    """Return the messages that this version knows; `kind` is a union of their types."""
    known, decoder = [], _decoder(kind)
    for raw in raw_messages:
        try:
            known.append(decoder.decode(raw))
        except _ERRORS:
            continue
    return tuple(known)


def decode_to_agent(frame: bytes) -> Decoded[ToAgentPacket]:
    """Return the packet in `frame`, without messages of a newer minor. Raises: MalformedMessageError."""
    try:
        return Decoded(_decoder(ToAgentPacket).decode(frame), 0)
    except _ERRORS:
        raw = _decode(_RawPacket, frame, "packet for an agent")
        messages = _known(ToAgent, raw.messages)
        packet = ToAgentPacket(
            session=raw.session, incarnation=raw.incarnation, seq=raw.seq, ack=raw.ack, messages=messages
        )
        return Decoded(packet, len(raw.messages) - len(messages))


def decode_from_agent(frame: bytes) -> Decoded[FromAgentPacket]:
    """Return the packet in `frame`, without messages of a newer minor. Raises: MalformedMessageError."""
    try:
        return Decoded(_decoder(FromAgentPacket).decode(frame), 0)
    except _ERRORS:
        raw = _decode(_RawPacket, frame, "packet from an agent")
        messages = _known(FromAgent, raw.messages)
        packet = FromAgentPacket(session=raw.session, seq=raw.seq, ack=raw.ack, messages=messages)
        return Decoded(packet, len(raw.messages) - len(messages))


class _Number(msgspec.Struct):
    seq: int = 0


def is_numbered(frame: bytes) -> bool:
    """Return whether a packet has messages that are delivered once and in order; false for heartbeats and malformed ones."""
    try:
        return bool(_decode(_Number, frame, "packet").seq)
    except MalformedMessageError:
        return False


def decode_log_frame(frame: bytes) -> LogFrame:
    """Return the header of a piece of a log or a file in `frame`. Raises: MalformedMessageError."""
    return _decode(cast("type[LogFrame]", LogFrame), frame, "piece of a log or a file")


def decode_log_answer(frame: bytes) -> LogAnswer:
    """Return the answer in `frame` to such a piece. Raises: MalformedMessageError."""
    return _decode(cast("type[LogAnswer]", LogAnswer), frame, "answer to a piece of a log or a file")


def decode_step_config(frame: bytes) -> StepConfig:
    """Return the configuration of a job step's agents. Raises: MalformedMessageError."""
    return _decode(StepConfig, frame, "step configuration")


def decode_config(frame: bytes) -> AgentConfig:
    """Return the configuration of an agent. Raises: MalformedMessageError."""
    return _decode(AgentConfig, frame, "agent configuration")
