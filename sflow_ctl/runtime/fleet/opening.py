"""Opens the fleet of a run, on this machine or in a Slurm job, and closes it. The only place that chooses between them.

Called by `run/workflow.py` and by the doctor's `inspection.py`. The modules that make a fleet are imported when needed: a
run on this machine needs nothing of Slurm.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sflow_ctl.runtime.fleet.fleet import Fleet, FleetRequest
from sflow_ctl.runtime.fleet.local import LocalLauncher

if TYPE_CHECKING:
    from sflow_ctl.runtime.slurm.allocation import Allocation


@contextlib.contextmanager
def open_fleet(
    request: FleetRequest,
    allocation: "Allocation | None",
    launcher: LocalLauncher,
    print_line: Callable[[str], object] = lambda _: None,
) -> Iterator[Fleet]:
    """Make a fleet, in the job if there is one; end what its launcher would leave behind.

    `launcher` starts the agents of this machine. Raises: LaunchError; nothing of the fleet is left then.
    """
    if allocation is None:
        from sflow_ctl.runtime.fleet.local_fleet import local_fleet

        fleet = local_fleet(request, launcher)
    else:
        from sflow_ctl.runtime.fleet.job_fleet import job_fleet

        fleet = job_fleet(request, allocation, launcher, print_line)
    try:
        yield fleet
    finally:
        fleet.close()
