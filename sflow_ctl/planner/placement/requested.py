"""What a task asks its backend for, and the nodes of a backend while tasks are placed on them."""

from collections.abc import Hashable
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from sflow_ctl.plan.words import Compat, Near, Pack
from sflow_ctl.planner.placement.books import Book, Claimant, CursorBook, NodeClaims, TimeBook


class PlacementRequest(Struct, frozen=True, kw_only=True):
    """The nodes and GPUs that one concrete task asks its backend for. Node numbers count within the backend."""

    task: str
    replica_index: int = 0
    is_sequential: bool = False
    has_nodes: bool = False
    """It asks for nodes, not only for GPUs."""
    indices: tuple[int, ...] | None = None
    node_count: int | None = None
    exclude: tuple[int, ...] = ()
    gpus: int | None = None
    gpu_bytes: int = 0
    """Memory that each of its GPUs must have; 0 where the file does not say."""
    is_shared: bool = False
    """Use GPUs without taking them; ignored without `gpus`."""
    is_fixed: bool = False
    """The task takes no GPUs, and others use its address: its nodes must be known before anything starts."""
    is_of_cell: bool = False
    """It is of a cell of a sweep: cells run where there is room when they are ready."""
    is_apart: bool = False
    """The task runs when all others have ended, so it takes nothing from them."""
    pack: Pack = "none"
    near: Near = "none"
    """Which GPUs would be best, as the nodes report them: those are chosen when the task is ready."""
    gpu_indices: tuple[int, ...] | None = None
    """The numbers of its GPUs on each node, in the order in which it sees them."""
    claims_nodes: bool = False
    """Keeps its nodes from other tasks that ask for nodes."""
    claimant: Claimant = Claimant()

    @property
    def shape(self) -> "PlacementRequest":
        """Return what it has in common with the requests of other copies: they may run on the same nodes."""
        return replace(self, task="", replica_index=0, claimant=Claimant())

    @property
    def is_choosy(self) -> bool:
        """Return whether it matters which GPUs it gets."""
        return self.pack != "none" or self.near != "none"


class NoRoomError(Exception):
    """The static plan has no room for this request, although such nodes and GPUs exist."""


class BackendNodes(Struct, dict=True):
    """One backend's nodes.

    `capacities` are GPUs per node, None where unknown; `first` is its first run-wide index.
    """

    first: int
    capacities: tuple[int | None, ...]
    rules: Compat = "ours"
    """Those of a version of sflow allow only its static plan: a task without room is refused, not queued."""
    spares: tuple[int | None, ...] = ()
    """GPUs of the spare nodes, which follow the others: nothing is placed there, but may move there."""
    loads: list[dict[int, int]] = []
    """Per node, how many sharing tasks were given each GPU."""
    claims: NodeClaims = field(default_factory=NodeClaims)
    notes: list[str] = field(default_factory=list)
    """What its tasks got otherwise than without claims, as sentences."""
    lists: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    """Nodes without excluded ones, by what is excluded."""
    answers: dict[Hashable, Any] = field(default_factory=dict)
    """What requests of a shape got, where that does not depend on those before: a thousand copies need not each look at
    a thousand nodes.
    """
    full_before: dict[Hashable, int] = field(default_factory=dict)
    """How many nodes of a list are known to be full for requests of a kind, until tasks are placed when they are ready."""

    def __post_init__(self) -> None:
        self.loads = [{} for _ in self.capacities]
        nodes = len(self.capacities)
        self.book: Book = CursorBook(nodes) if self.rules == "0.2" else TimeBook(nodes)

    def spares_with(self, gpus: int) -> tuple[int, ...]:
        """Return the run-wide indices of the spare nodes with so many GPUs."""
        first = self.first + len(self.capacities)
        return tuple(
            first + number
            for number, capacity in enumerate(self.spares)
            if capacity is None or capacity >= gpus
        )

    @property
    def is_strict(self) -> bool:
        """Return whether a task without room is refused."""
        return self.rules != "ours"

    @property
    def divides_evenly(self) -> bool:
        """Return whether a number of GPUs must be a multiple of that of the nodes."""
        return self.rules != "0.2"
