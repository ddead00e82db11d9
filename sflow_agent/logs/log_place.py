"""Where this agent's tasks write their logs, and what earlier agents of the run have left on the node.

`agent.py` makes one when it starts and leaves it at its end; `spool.py` has the parts.
"""

from protocol.messages.config import AgentConfig
from sflow_agent.logs.spool import (
    LeftLog,
    SpoolIndex,
    has_left_spools,
    hold,
    make_spool,
    remove_spool,
    set_aside,
    shares_run_directory,
    take_left_spools,
)


class LogPlace:
    """The run directory, if it is the controller's own here, or a spool. Raises: OSError when a spool cannot be made."""

    def __init__(self, config: AgentConfig) -> None:
        self.is_shared = shares_run_directory(config)
        if config.follows:
            set_aside(config)
        has_left = has_left_spools(config)
        self._spool = make_spool(config) if has_left or not self.is_shared else None
        self._lock = None if self._spool is None else hold(self._spool)
        self.left: list[LeftLog] = []
        """Logs that earlier agents could not hand over."""
        if has_left and self._spool is not None:
            self.left = take_left_spools(config, self._spool)
        self.base = config.run_directory if self.is_shared or self._spool is None else self._spool
        """The directory that holds the logs of tasks on this node."""
        self.index = None if self.is_shared else SpoolIndex(self.base)

    def leave(self, *, are_delivered: bool) -> str | None:
        """Remove a spool whose logs the controller has; return the path of one that is kept."""
        if self._spool is None or not are_delivered:
            return self._spool
        remove_spool(self._spool)
        return None
