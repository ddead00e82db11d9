"""Writes `docs/protocol.md` from the messages: handshake, channel, versions, and every message with its fields.

Meanings are the docstrings in `protocol/messages`. A test keeps the page up to date:
`python -m sflow_ctl.format.reference.protocol_page docs/protocol.md` writes it.
"""

import ast
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from protocol.diagnosis.signatures import Signature
from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages import (
    checks,
    config,
    facts,
    handover,
    inspection,
    monitor,
    node,
    orders,
    packets,
    rank_spec,
    telemetry,
    uploads,
)
from protocol.session.channel import MAX_UNACKNOWLEDGED, RESEND_AFTER_S
from protocol.session.codec import MAX_FRAME_BYTES, MAX_LOG_BODY_BYTES
from protocol.session.version import PROTOCOL_VERSION
from protocol.streams.door import INNER

_LOG_SOCKET = (*typing.get_args(packets.LogFrame), *typing.get_args(packets.LogAnswer))
_IDS = (AttemptId, RankId, ProbeKey)
_VALUES = (rank_spec, handover, checks, node, inspection, monitor, telemetry, uploads, facts)
"""Modules with values that messages are made of."""
_WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true/false",
    bytes: "binary",
    type(None): "nil",
    typing.Any: "any value",
}


def page() -> str:
    """Return the text of `docs/protocol.md`."""
    parts = [_head()]
    parts += ["## Packets", "", *_sections((packets.ToAgentPacket, packets.FromAgentPacket))]
    parts += ["## Orders: from the controller to an agent", "", *_sections(typing.get_args(orders.ToAgent))]
    parts += ["## Facts: from an agent to the controller", "", *_sections(typing.get_args(facts.FromAgent))]
    parts += ["## Headers on the log socket", "", *_sections(_LOG_SOCKET)]
    parts += ["## How an agent is started", "", *_sections((config.AgentConfig, config.StepConfig))]
    parts += ["## Ids", "", "Arrays of fixed length, in this order.", "", *_sections(_IDS)]
    parts += ["## Values inside messages", "", *_sections(_values())]
    return "\n".join(parts).rstrip("\n") + "\n"


def _head() -> str:
    version = ".".join(map(str, PROTOCOL_VERSION))
    return f"""# The protocol between controller and agents

Version {version}. Generated from `protocol/`; do not edit. Any language with ZeroMQ, CURVE and MessagePack can speak
it: a test reads and writes every message with the `msgpack` package.

## Connection

* Through a network, the controller binds two ROUTER sockets on TCP, *control* and *logs*; an agent connects a DEALER to
  each. All use CURVE: the agent knows the controller's public key, and the controller admits only the keys that it gave
  out for this run.
* On one machine an agent has inherited descriptor {INNER}, and passes one end of each of two new stream sockets through it
  by `SCM_RIGHTS`: for *control*, then for *logs*. Before each message there are the numbers of bytes of its header, or
  packet, and of its body, 4 bytes each, the lowest first.
* A frame on *control* is one packet. On *logs* a message is a header frame and a body frame with bytes of a log or a
  file, at most {MAX_LOG_BODY_BYTES >> 10} KiB. A frame has at most {MAX_FRAME_BYTES >> 20} MiB.
* Frames are MessagePack. Structs are maps with the field names below as keys; ids are arrays. A message, and a value
  of several kinds, has its kind under `type`. A field with a default may be left out; an unknown field is ignored; a
  message whose `type` or content is not understood is dropped alone and counted.
* Times are seconds, as floating-point numbers; names end with their unit. `_ns` is wall time in nanoseconds since
  1970, for display.

## Handshake

1. The agent sends a `hello` in a packet with `seq` 0 and a new, unique `session`, to each of the controller's
   addresses in turn, once a second, until it is answered. It holds everything the agent has: live ranks, exits that
   were not acknowledged, triggered probes.
2. The controller compares it with its own state and answers with a `welcome` that names the session, or with
   `refused`: another major version, a run that is not this one. Of several hellos of one node, the newest agent
   incarnation and session number wins.
3. Packets of any other session are counted and dropped by both sides. A side that hears nothing for its limit begins
   again at 1; a restarted controller has a higher `incarnation`, and an agent obeys the highest one only.

## Channel

Packets with a `seq` above 0 are numbered from 1 in each direction and session, and delivered once and in order: the
receiver handles `seq` if it is the next one, ignores it otherwise, and reports in `ack` up to which number it has
handled all. What is not acknowledged for {RESEND_AFTER_S:g} s is sent again; with more than {MAX_UNACKNOWLEDGED}
packets unacknowledged the session is broken. A packet with `seq` 0 and no messages is a heartbeat.

## Versions

`hello.version` is (major, minor). Sides with different majors refuse each other. The minor grows with a new optional
field or a new message; a field never changes its meaning, type or unit.
"""


def _values() -> list[type]:
    found = [
        one
        for module in _VALUES
        for one in vars(module).values()
        if isinstance(one, type)
        and issubclass(one, msgspec.Struct)
        and one.__module__ == module.__name__
        and one.__struct_fields__
        and one not in typing.get_args(facts.FromAgent)
    ]
    return sorted({*found, Signature, packets.FileEnd}, key=lambda one: one.__name__)


def _sections(kinds: tuple[type, ...] | list[type]) -> Iterator[str]:
    for kind in kinds:
        yield f"### {kind.__name__}"
        yield ""
        tag = getattr(kind, "__struct_config__", None) and kind.__struct_config__.tag  # type: ignore[attr-defined]
        if tag:
            yield f"`type`: `{tag}`"
            yield ""
        yield inspect.cleandoc(_docstring(kind))
        yield ""
        rows = list(_rows(kind))
        if rows:
            yield "| Field | Type | Default | Meaning |"
            yield "|---|---|---|---|"
            yield from rows
            yield ""


def _docstring(kind: type) -> str:
    return kind.__doc__ or ""


def _rows(kind: type) -> Iterator[str]:
    meanings = _meanings(kind)
    if issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            default = "required" if field.required else _default(field)
            yield f"| `{field.encode_name}` | {_type(field.type)} | {default} | {meanings.get(field.name, '')} |"
    else:
        for name, of in typing.get_type_hints(kind).items():
            yield f"| `{name}` | {_type(of)} | required | {meanings.get(name, '')} |"


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else {}
    if value is None:
        return "nil"
    if isinstance(value, msgspec.Struct):
        return "all defaults"
    return f"`{msgspec.json.encode(value).decode()}`"


def _type(of: Any) -> str:
    origin, args = typing.get_origin(of), typing.get_args(of)
    if of in _WORDS:
        return _WORDS[of]
    if origin is Literal:
        return " or ".join(f'`"{word}"`' for word in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(one) for one in args)
    if origin is tuple and len(args) == 2 and args[1] is ...:
        return f"array of {_type(args[0])}"
    if origin is tuple:
        return f"[{', '.join(_type(one) for one in args)}]"
    if origin is dict:
        return f"map of {_type(args[0])} to {_type(args[1])}"
    return f"[{of.__name__}](#{of.__name__.lower()})"


def _meanings(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        found |= _of_module(base.__module__).get(base.__name__, {})
    return found


@lru_cache(maxsize=32)
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """Return, by class, the docstrings below the fields of a module of ours."""
    if not name.startswith("protocol."):
        return {}
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    result: dict[str, dict[str, str]] = {}
    for kind in ast.walk(tree):
        if isinstance(kind, ast.ClassDef):
            texts = result.setdefault(kind.name, {})
            for field, text in zip(kind.body, kind.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                ):
                    words = " ".join(inspect.cleandoc(str(text.value.value)).split())
                    texts[field.target.id] = words.replace("|", "\\|")
    return result


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
