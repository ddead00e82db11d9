"""What crosses the clients socket. A viewer can look at a run; no message changes anything.

From a viewer one frame, to a viewer a header frame and, for log bytes, a body. `seq` counts what a viewer is
sent; it answers with `Taken`, which is what keeps a slow one from filling anybody's memory.
"""

import msgspec

from sflow_ctl.core.states import Transition

VIEWER_VERSION = 1
"""Grows when a message changes meaning; a field may be added without."""


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A change of state and when it was made, as wall time for display."""

    wall_ns: int
    transition: Transition


class FromViewer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of what a viewer sends."""


class Attach(FromViewer, frozen=True, kw_only=True, tag="attach"):
    """Wants the last change of every task, then every change as it happens."""

    version: int = VIEWER_VERSION
    session: int = 0
    """Chosen by the viewer, another one each time it attaches: what it is sent carries it."""


class Follow(FromViewer, frozen=True, kw_only=True, tag="follow"):
    """Ask for the log of an attempt's rank.

    From byte `offset` on, or, when that is None, from its last `lines` lines.
    """

    task: str
    attempt: int
    rank: int = 0
    offset: int | None = None
    lines: int = 10


class Unfollow(FromViewer, frozen=True, kw_only=True, tag="unfollow"):
    """Wants no more of that log."""

    task: str
    attempt: int
    rank: int = 0


class Taken(FromViewer, frozen=True, kw_only=True, tag="taken"):
    """Has handled everything up to `seq`. Also sent when idle: it is alive."""

    seq: int


class ToViewer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of what a viewer is sent. `seq` counts from 1 within a session."""

    session: int = 0
    seq: int = 0


class StateChanges(ToViewer, frozen=True, kw_only=True, tag="changes"):
    """StateChanges of state in order. Until `is_current` was true once, they are the state of the run so far."""

    changes: tuple[Change, ...]
    is_current: bool = False


class LogPiece(ToViewer, frozen=True, kw_only=True, tag="log_piece"):
    """Bytes of a log at `offset` (the body frame), after `skipped_lines` the viewer was too slow for."""

    task: str
    attempt: int
    rank: int = 0
    offset: int
    skipped_lines: int = 0
    path: str = ""
    """Where all of it is; only set with skipped lines."""


class LogEnded(ToViewer, frozen=True, kw_only=True, tag="log_ended"):
    """The attempt has ended and all of its log was sent, or there is no such log (`offset` 0)."""

    task: str
    attempt: int
    rank: int = 0
    offset: int


class ViewerRefused(ToViewer, frozen=True, kw_only=True, tag="refused"):
    """The viewer's last message was not accepted. With `code` "not-attached" it may attach again."""

    code: str
    reason: str


class RunEnded(ToViewer, frozen=True, kw_only=True, tag="run_ended"):
    """The last message: the controller is done. How it ended is in the run directory."""


FromViewerMessage = Attach | Follow | Unfollow | Taken
ToViewerMessage = StateChanges | LogPiece | LogEnded | ViewerRefused | RunEnded

encode = msgspec.msgpack.Encoder().encode
decode_from_viewer = msgspec.msgpack.Decoder(FromViewerMessage).decode
decode_to_viewer = msgspec.msgpack.Decoder(ToViewerMessage).decode
