"""Whom a run tells of its course, and how. A part of `Plan`."""

from typing import Literal, TypeAlias

import msgspec

NoticeEvent: TypeAlias = Literal["ready", "failure", "end"]
"""All services are ready for the first time; the first task has failed for good; the run has ended."""


class PlannedNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A command or a webhook. One of both is given."""

    on: tuple[NoticeEvent, ...]
    command: tuple[str, ...] = ()
    webhook: str = ""
    timeout_s: float
