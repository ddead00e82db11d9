"""Identifiers of attempts, ranks and checks. Small tuples: they are dictionary keys on every hot path."""

from typing import Literal, NamedTuple

ProbeKind = Literal["readiness", "failure"]


class AttemptId(NamedTuple):
    """One try of one concrete task, counted from 1. Written `decode_3#2`."""

    task: str
    number: int

    def __str__(self) -> str:
        return f"{self.task}#{self.number}"


class RankId(NamedTuple):
    """One process of an attempt. Most attempts have rank 0 only; a gang has one per process."""

    attempt: AttemptId
    rank: int

    def __str__(self) -> str:
        return f"{self.attempt}" if self.rank == 0 else f"{self.attempt}.{self.rank}"


class ProbeKey(NamedTuple):
    """One check of a rank's probe; `number` is its index in the probe's `checks`. Written `readiness[2]`."""

    kind: ProbeKind
    number: int

    def __str__(self) -> str:
        return f"{self.kind}[{self.number}]"
