"""Waits until no other process uses the GPUs of this machine that a run may give out. Called before its agents start."""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from protocol.errors import Finding, LaunchError
from protocol.messages.node import Gpu
from sflow_ctl.plan.gpu_checks import use_of
from sflow_ctl.plan.model import Plan, PlannedNode
from sflow_ctl.runtime.fleet.fleet import NVIDIA_CONTROL
from sflow_ctl.runtime.run.options import FleetOptions

ASK_EVERY_S = 2.0
ASK_WITHIN_S = 30.0
SAY_EVERY_S = 60.0


def wait_for_gpus(plan: Plan, options: FleetOptions, say: Callable[[str], object]) -> None:
    """Wait as the command line or the backend says. Raises: LaunchError if the GPUs are still in use then."""
    asked = wait_of(plan, options) if NVIDIA_CONTROL.exists() else None
    if asked is not None:
        wait_until_idle(*asked, say)


def wait_of(plan: Plan, options: FleetOptions) -> tuple[PlannedNode, float] | None:
    """Return the node with this machine's real GPUs, and how many seconds to wait for them; None if nothing asks for that.

    The command line wins over backends. Only a single agent uses real GPUs.
    """
    here = [node for node in plan.nodes if node.backend_type == "local" and node.engine_host is None]
    if len(here) != 1 or options.simulate_gpus or not here[0].gpus:
        return None
    seconds = here[0].wait_for_gpus if options.wait_for_gpus is None else options.wait_for_gpus
    return None if seconds is None else (here[0], seconds or math.inf)


def gpus_now() -> Sequence[Gpu]:
    """Return this machine's GPUs and who uses them; nothing if the driver does not answer."""
    try:
        asked = subprocess.run(
            (sys.executable, "-I", "-m", "sflow_agent.node.gpus_now"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_WITHIN_S,
            check=True,
        )
        return msgspec.json.decode(asked.stdout, type=tuple[Gpu, ...])
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError):
        return ()


def wait_until_idle(
    node: PlannedNode,
    within_s: float,
    say: Callable[[str], object],
    ask: Callable[[], Sequence[Gpu]] = gpus_now,
    clock: Callable[[], float] = time.monotonic,
    rest: Callable[[float], object] = time.sleep,
) -> None:
    """Return once the first GPUs of the machine, as many as the node has, are used by nothing; `say` what is waited for.

    Raises: LaunchError after `within_s`.
    """
    began, said_at = clock(), -math.inf
    while used := _used(node, ask()):
        waited = clock() - began
        if waited >= within_s:
            hint = "end those processes, or wait longer: --wait-for-gpus SECONDS"
            what = f"node {node.name}: after {within_s:g} s {'; '.join(used)}"
            raise LaunchError([Finding("gpus-in-use", what, node.name, hint)])
        if clock() - said_at >= SAY_EVERY_S:
            said_at = clock()
            say(f"waiting for GPUs of {node.name}: {'; '.join(used)}")
        rest(min(ASK_EVERY_S, within_s - waited))


def _used(node: PlannedNode, gpus: Sequence[Gpu]) -> list[str]:
    return [
        f"GPU {gpu.index} is in use: {use}"
        for gpu in gpus
        if gpu.index < (node.gpus or 0) and (use := use_of(gpu)) is not None
    ]
