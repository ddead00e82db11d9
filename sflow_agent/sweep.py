"""`python -m sflow_agent.sweep MARKER`: ends what a run has left on this node whose agent and guardian were killed at once.

The controller starts it on a lost node: in a job step of its own, as that node may be another one. Exit status 0: nothing of
the run is left. 1: what is printed is left. 3: an agent of the run is alive, which ends its tasks itself.
"""

import sys

from protocol.machine.procfs import run_processes
from sflow_agent.limits import run_mark
from sflow_agent.processes.predecessors import end_predecessors

EXIT_CLEAR, EXIT_LEFT, EXIT_AGENT = 0, 1, 3


def main(marker: str) -> int:
    """Return the exit status."""
    left = end_predecessors([marker], has_containers=True, spares_agents=True)
    for one in left:
        sys.stdout.write(f"{one}\n")
    if run_mark(marker) in run_processes().values():
        return EXIT_LEFT if left else EXIT_AGENT
    return EXIT_LEFT if left else EXIT_CLEAR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
