"""Begins a run with the first agent, which `__main__` has started in most cases.

Imports little before that: the agent's interpreter starts while this one imports the rest.
"""

from sflow_ctl.cli.importing import uncollected
from sflow_ctl.cli.one_of_many import stands_by
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.run.options import RunOptions


def begin_first_of_many(options: RunOptions) -> int:
    """Run a workflow, unless another process of the same job step does; return the exit status. Raises: FleetError."""
    return 0 if stands_by() else begin_run(options)


def begin_run(options: RunOptions) -> int:
    """Run a workflow; return the exit status. Raises: FleetError."""
    launcher = LocalLauncher()
    launcher.prestart()
    try:
        with uncollected():
            from sflow_ctl.cli.execution import execute
        return execute(options, launcher)
    finally:
        launcher.discard_spares()
