"""Runs a preamble before a run.

This process becomes bash, which runs the preamble and then re-executes this command in the resulting
environment. So the controller, its agents and Slurm's commands have the exported variables, limits and mask.
"""

import os
import sys
from collections.abc import Callable

from protocol.errors import LaunchError
from sflow_ctl.batch.preamble import MARK_VARIABLE, Preamble, reentry


def run_first(preamble: Preamble, before: Callable[[], object]) -> None:
    """Return if the preamble has run already, in this job's script or around this run; else never return.

    Raises: LaunchError.
    """
    if os.environ.get(MARK_VARIABLE) == preamble.mark:
        return
    before()
    script = reentry(preamble, os.getcwd(), [sys.executable, *sys.orig_argv[1:]])  # noqa: PTH109 - text
    sys.stdout.flush()
    try:
        os.execvp("bash", ["bash", "-c", script])
    except OSError as error:
        raise LaunchError.of(
            "preamble-failed", f"cannot start bash for the preamble: {error.strerror}", preamble.places[0]
        ) from error
