"""Marks by which a run's processes are known: variables of their environment and numbers in their resource limits.

`sflow_agent/limits.py` sets the limits, `procfs` reads them, on the agent's side and on the controller's.
"""

RUN_MARKER = "SFLOW_RUN_MARKER"
ATTEMPT_MARKER = "SFLOW_ATTEMPT_ID"
RANK_MARKER = "SFLOW_RANK_MARKER"
"""Names the rank of a stray process: ranks of one attempt on one node share the attempt's id."""

MARKS = 1 << 16
MARK_TOP = 819_200
"""The kernel's own limit of POSIX message queues; where a site has lowered it, ranks get no mark."""
RANK_MARKS = range(MARK_TOP - MARKS, MARK_TOP)
"""Soft limits of message queues that ranks have and pass on; no machine has one of these by itself."""

RANK_BITS = 31
"""Bits of a job step's mark that tell ranks apart; those above are the run's."""
