"""Errors that the user or an administrator can correct, each with a stable code and an exit status.

Events of a task or a node are never errors: they are facts, and states with a reason.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar, Literal, Self

from msgspec import Struct


class ExitStatus(IntEnum):
    """The process exit statuses of `sflow-ctl`. They never change meaning."""

    OK = 0
    RUN_FAILED = 1
    USAGE = 2
    INFRASTRUCTURE = 3
    OUR_BUG = 70
    TIME_LIMIT = 124
    HANGUP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class Finding(Struct, frozen=True):
    """One problem, or something that is probably not meant: a kebab-case code, a sentence, the place, and the remedy."""

    code: str
    what: str
    where: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        return self.text("error")

    def text(self, level: Literal["error", "warning"]) -> str:
        """Return the finding as lines: what, where, hint."""
        lines = [f"{level}[{self.code}]: {self.what}"]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.hint:
            lines.append(f"  hint:  {self.hint}")
        return "\n".join(lines)

    def line(self) -> str:
        """Return the finding as one line, for logs and lists."""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.what}{hint} [{self.code}]" + (f" ({self.where})" if self.where else "")


class FleetError(Exception):
    """A problem that must be corrected before a run can continue. Carries every finding at once."""

    exit_status: ClassVar[ExitStatus] = ExitStatus.INFRASTRUCTURE

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))

    @classmethod
    def of(cls, code: str, what: str, where: str | None = None, hint: str | None = None) -> Self:
        """Return an error with a single finding."""
        return cls((Finding(code, what, where, hint),))


class SpecError(FleetError):
    """The workflow file, or an override of it, is wrong."""

    exit_status = ExitStatus.USAGE


class PlanError(FleetError):
    """The file is well formed but cannot run: names, expressions, graph, nodes or GPUs."""

    exit_status = ExitStatus.USAGE


class UsageError(FleetError):
    """The command line asks for something impossible."""

    exit_status = ExitStatus.USAGE


class AllocationError(FleetError):
    """Slurm's job does not fit the run, or Slurm grants none."""


class LaunchError(FleetError):
    """The agents could not be started, or did not report in time."""


class ArtifactError(FleetError):
    """An artifact could not be fetched or made; no task has started."""


class RunDirectoryError(FleetError):
    """The run directory cannot be made, read or written."""

    exit_status = ExitStatus.USAGE


class DiskFullError(RunDirectoryError):
    """The file system of the run directory is full, or the user's quota of it is used up."""

    exit_status = ExitStatus.INFRASTRUCTURE


class ControllerAwayError(FleetError):
    """The controller of a run that is to be changed has died, or does not answer."""


class MalformedMessageError(FleetError):
    """Bytes from a peer are not a message of this protocol. Counted and dropped, never fatal."""
