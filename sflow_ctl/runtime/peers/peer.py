"""One agent as the controller's link sees it. Data only; `link.py` makes one for each node, `silences.py` judges them."""

from msgspec import Struct, field

from protocol.machine.loop_watch import MOVES, Standstill
from protocol.messages.orders import ToAgent
from protocol.session.channel import Channel
from sflow_ctl.runtime.transport.transport import Way


class Peer(Struct):
    """The link's state of one node's agent."""

    way: Way | None = None
    """The connection by which its last packet has come."""
    session: str = ""
    hello_from: tuple[Way, str] | None = None
    """(connection, session) of a hello the scheduler has not answered yet."""
    newest: tuple[int, int] = (0, 0)
    """(agent incarnation, session number) of the newest hello."""
    channel: Channel[ToAgent] = field(default_factory=Channel)
    outbox: list[ToAgent] = field(default_factory=list)
    last_heard: float = 0.0
    last_sent: float = 0.0
    has_joined: bool = False
    is_abandoned: bool = False
    standstill: Standstill = MOVES
    """As its last packet says: a thread of the agent speaks for a loop that stands still."""

    @property
    def is_in_session(self) -> bool:
        """Return whether packets may be sent to the agent."""
        return self.has_joined and self.way is not None and not self.is_abandoned

    def begin_session(self, way: Way, session: str) -> None:
        """Begin the session that a hello from this connection asked for."""
        self.way, self.session, self.hello_from = way, session, None
        self.channel, self.standstill = Channel(holds_acks=True), MOVES
        self.has_joined = True


class LinkTimes(Struct, frozen=True, kw_only=True):
    """The seconds after which an agent is lost."""

    lost_after_s: float = 30.0
    join_within_s: float = 60.0
    orphan_grace_s: float = 10.0
    still_after_s: float = 900.0
    """For an agent whose loop stands still while a thread of it speaks: a file server that is restarted takes minutes."""
