"""The messages of the clients socket. A viewer can only read; what an operator asks for needs the operator's key.

From a viewer one frame, to a viewer a header frame and, for log bytes, a body. `seq` counts the messages to a
viewer; it answers with `Taken`, so a slow viewer cannot fill the controller's memory.
"""

import msgspec

from sflow_ctl.core.requests import AnyAction, RequestAnswer
from sflow_ctl.core.states import Transition

VIEWER_VERSION = 1
"""Grows when a message changes meaning; a field may be added without."""


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A change of state and when it was made, as wall time for display."""

    wall_ns: int
    transition: Transition


class FromViewer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of messages from a viewer."""


class Attach(FromViewer, frozen=True, kw_only=True, tag="attach"):
    """Requests the last change of every task, then every change as it happens."""

    version: int = VIEWER_VERSION
    session: int = 0
    """Chosen by the viewer, another one each time it attaches; contained in every message to it."""


class Follow(FromViewer, frozen=True, kw_only=True, tag="follow"):
    """Requests the log of an attempt's rank: from byte `offset` on, or, if that is None, from its last `lines` lines."""

    task: str
    attempt: int
    rank: int = 0
    offset: int | None = None
    lines: int = 10


class Unfollow(FromViewer, frozen=True, kw_only=True, tag="unfollow"):
    """Ends the request for that log."""

    task: str
    attempt: int
    rank: int = 0


class Taken(FromViewer, frozen=True, kw_only=True, tag="taken"):
    """Everything up to `seq` has been handled. Also sent when idle, as a heartbeat."""

    seq: int


class Ask(FromViewer, frozen=True, kw_only=True, tag="ask"):
    """Requests a change of the run. Repeated until it is answered; it is carried out once."""

    id: str
    """32 hexadecimal digits."""
    by: str
    """Who asks, for people."""
    action: AnyAction
    secrets: tuple[tuple[str, str], ...] = ()
    """(name, value) of secrets that the run does not have yet, and the plan of an `Apply` was made with. In no journal."""


class ToViewer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of messages to a viewer. `seq` counts from 1 within a session."""

    session: int = 0
    seq: int = 0


class StateChanges(ToViewer, frozen=True, kw_only=True, tag="changes"):
    """Changes of state in order. Until `is_current` was true once, they are the state of the run so far."""

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
    """The path of the whole log; only set with skipped lines."""


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


class Answered(ToViewer, frozen=True, kw_only=True, tag="answered"):
    """The answer to an `Ask`, sent when what follows from it is in the journal."""

    id: str
    answer: RequestAnswer


class RunEnded(ToViewer, frozen=True, kw_only=True, tag="run_ended"):
    """The last message: the controller ends. The result of the run is in the run directory."""


FromViewerMessage = Attach | Follow | Unfollow | Taken | Ask
RunNews = StateChanges | LogPiece | LogEnded | RunEnded
"""Messages to a viewer in order, with `seq`."""
ToViewerMessage = RunNews | ViewerRefused
ToOperatorMessage = Answered | ViewerRefused

encode = msgspec.msgpack.Encoder().encode
decode_from_viewer = msgspec.msgpack.Decoder(FromViewerMessage).decode
decode_to_operator = msgspec.msgpack.Decoder(ToOperatorMessage).decode
decode_to_viewer = msgspec.msgpack.Decoder(ToViewerMessage).decode
