"""Chunks of logs and their acknowledgements."""

from protocol.ids import RankId
from protocol.messages.base import Message


class LogChunk(Message, frozen=True, kw_only=True, tag="log_chunk"):
    """Bytes of a log at `offset`; they travel as the frame after this header, at most 256 KiB."""

    rank: RankId
    offset: int
    is_spool: bool = False
    """The controller must append them to its own file: the run directory is not shared."""
    is_end: bool = False
    """The rank has ended and its log stops here. The body may be empty."""


class LogAck(Message, frozen=True, kw_only=True, tag="log_ack"):
    """All bytes of the rank's log before `offset` are stored; more may be sent."""

    rank: RankId
    offset: int
