"""Marks by which a run's processes are known (variables of their environment, numbers in their limits), and a guardian's signal.

`sflow_agent/limits.py` sets the limits, `procfs` reads them, on the agent's side and on the controller's.
"""

import signal

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
"""Bits of a job step's mark that tell ranks apart, 0 in that of an agent and its tasks; those above are the run's."""
RUN_MARKS = range(1 << 29, 1 << 30)
"""The part of a run's marks above those bits; no machine has a limit of file locks like this by itself."""

LAST_AGENT = signal.SIGRTMIN + 3
"""Says to a guardian that no other agent is to follow the one that it has: the run continues without its node."""
