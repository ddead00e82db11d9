"""Asks on another node of a job whether the controller of a run is dead: a step looks for its process there.

As a program (`python -m sflow_ctl.runtime.slurm.claim_check WORLD PID STARTED ...`) what the step runs. The age of a claim
would say so only after a minute, when the agents that could be adopted are about to end. Called by `run/resume.py`.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from protocol.machine.procfs import is_same_process
from sflow_ctl.runtime.record.claim import Claim
from sflow_ctl.runtime.record.processes import process_world
from sflow_ctl.slurm.step_command import StepPart, step_argv, step_environment

ANSWER_WITHIN_S = 20.0
GONE, LIVES, UNKNOWN = 42, 43, 44
"""Exit statuses that neither srun nor an interpreter has of its own."""


def is_gone_there(claim: Claim, job_id: str) -> bool:
    """Return whether a node of the job says that the claim's controller and its supervisor do not exist any more.

    False if there is no answer: the host is not in the job, or does not react.
    """
    if claim.host == socket.gethostname():
        return False  # known without asking
    program = (sys.executable, "-I", "-X", "utf8", "-m", "sflow_ctl.runtime.slurm.claim_check", claim.world)
    processes = (claim.pid, claim.pid_started, claim.supervisor, claim.supervisor_started)
    argv = step_argv(
        (*program, *map(str, processes)),
        job_id=job_id,
        parts=[StepPart(nodes=1, nodelist=(claim.host,))],
        gpus_on_node=None,
    )
    null = subprocess.DEVNULL
    try:
        done = subprocess.run(
            argv, env=step_environment(os.environ), stdin=null, stdout=null, stderr=null,
            timeout=ANSWER_WITHIN_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == GONE


def main(arguments: Sequence[str]) -> int:
    """Return what is known of a claim's processes on this node."""
    world, *numbers = arguments
    boot, own_boot = world.partition(" ")[0], process_world().partition(" ")[0]
    if boot and own_boot and boot != own_boot:
        return GONE  # the node was started anew
    if world != process_world():
        return UNKNOWN  # its pids mean nothing here
    pid, started, supervisor, supervisor_started = map(int, numbers)
    lives = is_same_process(pid, started) or (supervisor and is_same_process(supervisor, supervisor_started))
    return LIVES if lives else GONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
