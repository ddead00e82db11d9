"""Makes `srun sflow-ctl ...` with several tasks one run: the step's first process does everything.

Called by the commands that would otherwise start or submit something once per process.
"""

import os

from protocol.errors import UsageError
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.slurm.ranks import started_rank


def stands_by() -> bool:
    """Return whether another process of the job step does the work of this one, and say so.

    Raises: UsageError where an MPI launcher has started several: it would take the run for an MPI program.
    """
    started = started_rank(os.environ)
    if started is None:
        return False
    if started.is_mpi:
        raise UsageError.of(
            "several-ranks",
            f"an MPI launcher has started this program {started.size} times",
            where=f"{started.variable}={started.size}",
            hint=f"start it once, without mpirun; if that is of an outer program: env -u {started.variable} sflow-ctl ...",
        )
    if started.rank == 0:
        return False
    print_line(
        f"sflow-ctl: process {started.rank} of this job step does nothing: process 0 does the work for all."
        f" To start it here as well: env -u {started.variable} sflow-ctl ...",
        err=True,
    )
    return True
