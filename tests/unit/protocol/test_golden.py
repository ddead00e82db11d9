"""The wire is open: golden packets in MessagePack, which an independent implementation reads and writes.

`SFLOW_REWRITE=1` writes the samples anew. A difference is a change of protocol: a new optional field raises the minor, anything
else the major. Beside each packet is its content as JSON, so that a diff can be read.
"""

import json
import os
from pathlib import Path
from typing import Any, get_args

import msgpack
import msgspec
import pytest

from protocol.messages.base import Message
from protocol.messages.facts import FromAgent
from protocol.messages.orders import ToAgent
from protocol.messages.packets import FromAgentPacket, LogAnswer, LogFrame, ToAgentPacket
from protocol.session import codec
from protocol.session.version import PROTOCOL_VERSION
from sflow_ctl.format.reference.protocol_page import page
from tests.unit.protocol.samples import FROM_AGENT, LOGS, TO_AGENT

GOLDEN = Path(__file__).parent / "golden" / ".".join(map(str, PROTOCOL_VERSION))
PACKETS = {
    **{
        type(one).__name__: ToAgentPacket(session="s", incarnation=1, seq=4, ack=3, messages=(one,))
        for one in TO_AGENT
    },
    **{type(one).__name__: FromAgentPacket(session="s", seq=4, ack=3, messages=(one,)) for one in FROM_AGENT},
    **{type(one).__name__: one for one in LOGS},
}


def decoded(name: str, frame: bytes) -> Any:
    if name in {kind.__name__ for kind in get_args(LogFrame)}:
        return codec.decode_log_frame(frame)
    if name in {kind.__name__ for kind in get_args(LogAnswer)}:
        return codec.decode_log_answer(frame)
    decode = codec.decode_to_agent if isinstance(PACKETS[name], ToAgentPacket) else codec.decode_from_agent
    packet, unknown = decode(frame)
    assert unknown == 0
    return packet


def readable(frame: bytes) -> str:
    """Return the content of a frame, as the independent implementation reads it."""
    content = msgpack.unpackb(frame)
    return json.dumps(content, indent=1, default=lambda data: f"bytes {data.decode()}") + "\n"


def test_every_message_has_a_sample() -> None:
    kinds = {*get_args(ToAgent), *get_args(FromAgent), *get_args(LogFrame), *get_args(LogAnswer)}
    assert {kind.__name__ for kind in kinds} == set(PACKETS)
    assert {path.stem for path in GOLDEN.iterdir() if path.suffix == ".msgpack"} == set(PACKETS)


def fields_set(value: Any) -> dict[type, set[str]]:
    """Which fields of which structs differ from their defaults, in a message and all that it holds."""
    found: dict[type, set[str]] = {}
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, msgspec.Struct):
            for field in msgspec.structs.fields(type(one)):
                inner = getattr(one, field.name)
                if field.required or inner != field.default:
                    found.setdefault(type(one), set()).add(field.name)
                stack.append(inner)
        elif isinstance(one, tuple):
            stack.extend(one)
    return found


def test_every_field_is_in_a_sample() -> None:
    found: dict[type, set[str]] = {}
    for message in (*TO_AGENT, *FROM_AGENT, *LOGS):
        for kind, names in fields_set(message).items():
            found.setdefault(kind, set()).update(names)
    missing = {kind.__name__: set(kind.__struct_fields__) - names for kind, names in found.items()}  # type: ignore[attr-defined]
    assert {kind: names for kind, names in missing.items() if names} == {}


@pytest.mark.parametrize("name", sorted(PACKETS))
def test_a_packet_is_the_golden_one(name: str) -> None:
    frame = codec.encode(PACKETS[name])
    packed, text = GOLDEN / f"{name}.msgpack", GOLDEN / f"{name}.json"
    if os.environ.get("SFLOW_REWRITE"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(frame)
        text.write_text(readable(frame))
    assert text.read_text() == readable(frame)
    assert packed.read_bytes() == frame
    assert decoded(name, packed.read_bytes()) == PACKETS[name]


@pytest.mark.parametrize("name", sorted(PACKETS))
def test_an_independent_implementation_writes_what_we_accept(name: str) -> None:
    content = msgpack.unpackb((GOLDEN / f"{name}.msgpack").read_bytes())
    assert decoded(name, msgpack.packb(content)) == PACKETS[name]


def test_a_packet_that_another_language_makes_by_hand_is_accepted() -> None:
    """With plain maps, all defaults left out, an unknown field, and integers where numbers are expected."""
    frame = msgpack.packb(
        {
            "session": "s",
            "seq": 1,
            "messages": [
                {
                    "type": "probe_triggered",
                    "attempt": ["a", 1],
                    "kind": "readiness",
                    "detail": "up",
                    "new": 7,
                },
                {"type": "rank_exited", "rank": [["a", 1], 0], "exit_code": 0, "runtime_s": 3},
            ],
        }
    )
    packet, unknown = codec.decode_from_agent(frame)
    assert unknown == 0
    assert [type(message).__name__ for message in packet.messages] == ["ProbeTriggered", "RankExited"]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("probe_triggered", "kind", "liveness"),
        ("rank_idle", "kind", "sound"),
        ("side_command_ended", "purpose", "fun"),
        ("notice", "level", "debug"),
    ],
)
def test_a_word_that_is_not_of_its_set_is_dropped_with_its_message(kind: str, field: str, value: str) -> None:
    good = {msgspec.to_builtins(one)["type"]: msgspec.to_builtins(one) for one in FROM_AGENT}
    frame = msgspec.msgpack.encode(
        {"session": "s", "messages": [{**good[kind], field: value}, good["goodbye"]]}
    )
    packet, unknown = codec.decode_from_agent(frame)
    assert unknown == 1
    assert [type(one).__name__ for one in packet.messages] == ["Goodbye"]


def test_the_page_is_up_to_date() -> None:
    path = Path(__file__).parents[3] / "docs" / "protocol.md"
    assert path.read_text() == page(), "python -m sflow_ctl.format.reference.protocol_page docs/protocol.md"


def test_the_page_has_every_message_and_every_field() -> None:
    text = page()
    for message in (*TO_AGENT, *FROM_AGENT, *LOGS):
        assert f"### {type(message).__name__}\n" in text
        assert all(f"| `{name}` |" in text for name in type(message).__struct_fields__)
    links = {link.split(")")[0] for link in text.split("](#")[1:]}
    titles = {line[4:].lower() for line in text.splitlines() if line.startswith("### ")}
    assert links <= titles


def test_every_message_has_its_type() -> None:
    kinds: list[type[Message]] = [
        *get_args(ToAgent),
        *get_args(FromAgent),
        *get_args(LogFrame),
        *get_args(LogAnswer),
    ]
    assert all(kind.__doc__ and kind.__doc__ != Message.__doc__ for kind in kinds)
