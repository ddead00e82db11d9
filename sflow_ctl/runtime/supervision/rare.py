"""The parts of a succession that few runs have: their types are imported only for those."""

from typing import TypeVar

import msgspec

from sflow_ctl.core.actions.resume import PriorResult
from sflow_ctl.report.resumed import ResumedSummary
from sflow_ctl.runtime.slurm.allocation import Allocation

T = TypeVar("T", bound=msgspec.Struct)


class Jobs(msgspec.Struct, frozen=True):
    """The Slurm jobs of a run, each with the only backend that it is for."""

    jobs: tuple[tuple[Allocation, str | None], ...]


class Resumed(msgspec.Struct, frozen=True):
    """What a resumed run has begun with."""

    prior: dict[str, PriorResult]
    summary: ResumedSummary | None


def encoded(content: msgspec.Struct) -> bytes:
    """Return a field of a `Succession`."""
    return msgspec.msgpack.encode(content)


def decoded(content: bytes, kind: type[T]) -> T:
    """Return what `encoded` was given. Raises: msgspec.DecodeError."""
    return msgspec.msgpack.decode(content, type=kind)
