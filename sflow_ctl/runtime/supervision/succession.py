"""What a controller hands to the one that takes over when it is killed: all that the run directory does not have.

In a memory file that the supervisor keeps with the ports and other descriptors: it has the keys of the run, which are in no
file. `runtime/run/handover.py` writes it, `runtime/run/takeover.py` reads it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from protocol.messages.config import AgentConfig
from sflow_ctl.runtime.children import memory_file
from sflow_ctl.runtime.files.settings_files import RunSettings
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.peers.peer import LinkTimes
from sflow_ctl.runtime.supervision.kept import KeptAgent, KeptStep


class Succession(msgspec.Struct, frozen=True, kw_only=True):
    """A run that can be taken over. Its descriptors follow in the order of the fields."""

    run_directory: Path
    run_id: str
    incarnation: int
    """Of the controller that wrote this."""
    lineage: int
    """The controller whose scheduler has lived on since: its first events are where the journal is replayed from."""
    plan: bytes
    """The file form of the plan if the run has secrets, else empty: `plan.json` does not have their values."""
    secrets: tuple[tuple[str, str], ...] = ()
    """(name, value) of all that the run has learnt."""
    settings: RunSettings
    here: tuple[str, str] = ("", "")
    """The controller's host and address, as the plan has them."""
    jobs: bytes = b""
    """`Jobs`, encoded, of a run in Slurm jobs: most runs need none of the types."""
    is_quiet: bool
    log_level: str
    keys: RunKeys
    node_keys: dict[str, int]
    """The keys of the agents, with their nodes: those of a job step have named their own."""
    nonce: str
    common: AgentConfig
    configs: tuple[AgentConfig, ...]
    times: LinkTimes
    missing: frozenset[int]
    fence_s: float
    resumed: bytes = b""
    """`Resumed`, encoded, of a run that was resumed."""
    endpoints: tuple[str, ...]
    """Half for control and half for logs. Their ports are the first descriptors."""
    client_endpoints: tuple[str, ...]
    """Their ports follow."""
    doors: tuple[int, ...] = ()
    """The nodes whose agents have doors, which follow."""
    agents: tuple[KeptAgent, ...]
    """Those of this machine; the descriptors of their standard error follow."""
    steps: tuple[KeptStep, ...]
    """With the descriptors of their output."""
    guards: tuple[int, ...] = ()
    """The processes that hold the jobs that the run has requested itself, with the descriptors that they watch."""


class Inherited(NamedTuple):
    """A succession, and its descriptors."""

    succession: Succession
    ports: Sequence[int]
    client_ports: Sequence[int]
    doors: Sequence[int]
    agents: Sequence[int]
    steps: Sequence[int]
    guards: Sequence[int]


_encoder = msgspec.msgpack.Encoder(enc_hook=str)


def written(succession: Succession) -> int:
    """Return the descriptor of a memory file with this content. Raises: OSError."""
    descriptor = memory_file("sflow-succession")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(encoded(succession))
    return descriptor


def encoded(succession: Succession) -> bytes:
    """Return a succession as bytes."""
    return _encoder.encode(succession)


def decoded(content: bytes) -> Succession:
    """Return what `encoded` was given. Raises: msgspec.DecodeError."""
    return msgspec.msgpack.decode(content, type=Succession, dec_hook=_decoded)


def inherited(descriptors: Sequence[int]) -> Inherited:
    """Return what an earlier controller had written, and given away with it. Raises: msgspec.DecodeError; OSError."""
    first, *rest = descriptors
    content = os.pread(first, os.fstat(first).st_size, 0)
    succession = decoded(content)
    sizes = (
        len(succession.endpoints),
        len(succession.client_endpoints),
        len(succession.doors),
        len(succession.agents),
        len(succession.steps),
    )
    parts: list[Sequence[int]] = []
    for size in sizes:
        parts.append(rest[:size])
        del rest[:size]
    ports, client_ports, doors, agents, steps = parts
    return Inherited(succession, ports, client_ports, doors, agents, steps, rest)


def _decoded(kind: type[Any], value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)
