"""How launchers report that an agent has ended. Apart from them because the one of local agents must be imported fast."""

from typing import NamedTuple


class AgentEnd(NamedTuple):
    """The end of a node's agent. Of one that was killed with its guardian, a second one follows when all is swept."""

    node: int
    how: str
    is_cleared: bool
    """Nothing of the run is left there but `survivors`."""
    survivors: tuple[str, ...] = ()
    """What could not be ended, "pid name"."""
