"""What the two sockets carry: packets, which are numbered batches of messages, and on the other one chunks of logs and of files.

`session.channel` numbers packets, `session.codec` packs them.
"""

import msgspec

from protocol.ids import RankId
from protocol.messages.base import Message
from protocol.messages.facts import FromAgent
from protocol.messages.orders import ToAgent


class ToAgentPacket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frame to an agent."""

    session: str
    """As the agent's `Hello` named it."""
    incarnation: int
    """Of the controller: an agent obeys the highest one only."""
    seq: int = 0
    """Its number in this direction and session, from 1; 0 for a heartbeat."""
    ack: int = 0
    """All packets of the agent up to this number have been handled."""
    messages: tuple[ToAgent, ...] = ()
    stalled_s: float = 0.0
    """For so long the controller's loop has stood still, for which a thread of its process speaks; 0 while it moves."""
    stalled_in: str = ""
    """What holds it up, for people: "stat of /mnt/x (output.py:81)"."""


class FromAgentPacket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frame from an agent."""

    session: str
    """As its `Hello` names it."""
    seq: int = 0
    """Its number in this direction and session, from 1; 0 for a `Hello` or a heartbeat."""
    ack: int = 0
    """All packets of the controller up to this number have been handled."""
    messages: tuple[FromAgent, ...] = ()
    stalled_s: float = 0.0
    """For so long the agent's loop has stood still, for which a thread of its process speaks; 0 while it moves."""
    stalled_in: str = ""
    """What holds it up, for people: "stat of /mnt/x (output.py:81)"."""


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


class FileEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file as a whole, when all of its bytes were sent."""

    bytes: int
    mtime_ns: int
    mode: int
    """Its permission bits."""
    sha256: str
    """Of what was sent, hexadecimal."""
    is_directory: bool = False
    """It is a directory without any file, which has no bytes."""


class FilePut(Message, frozen=True, kw_only=True, tag="file_put"):
    """Bytes of a file of a node whose run directory is its own, at `offset`, for the controller's: the frame after this header.

    At most 256 KiB. Answered by a `FileAnswer`.
    """

    transfer: int
    """The agent's number of this sending; another try has another one."""
    path: str
    """Relative to the run directory."""
    offset: int
    end: FileEnd | None = None
    """All bytes were acknowledged: the file may take its place. There are none in this message."""


class FileGet(Message, frozen=True, kw_only=True, tag="file_get"):
    """Asks for bytes of a file in the controller's run directory, at most 256 KiB. Answered by a `FileAnswer`."""

    transfer: int
    path: str
    """Relative to the run directory."""
    offset: int
    count: int


class FileAnswer(Message, frozen=True, kw_only=True, tag="file_answer", omit_defaults=True):
    """The controller's answer to a `FilePut` or a `FileGet`; bytes of a file are the frame after this header."""

    transfer: int
    offset: int
    """Of a file that is sent: all bytes before it are stored. Of one that was asked for: where these bytes begin."""
    is_end: bool = False
    """The file is in its place; or nothing follows these bytes."""
    problem: str = ""
    """Why it cannot be done, as a sentence without its subject; the transfer has ended."""


LogFrame = LogChunk | FilePut | FileGet
"""What an agent sends on the socket for logs."""
LogAnswer = LogAck | FileAnswer
"""What the controller answers there."""
