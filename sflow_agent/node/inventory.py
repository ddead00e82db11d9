"""Collects the facts of this node that take no time. Slower facts are in `introduction.py` and `inspection`."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from protocol.messages.node import Inventory
from sflow_agent.limits import inherited_limit
from sflow_agent.node.gpu_view import GpuView, given_view, nvidia_view, simulated_view

_SYSFS = Path("/sys")
_NVIDIA_CONTROL, _AMD_CONTROL = "/dev/nvidiactl", "/dev/kfd"


def gpu_view(simulated: int, environ: Mapping[str, str]) -> GpuView:
    """Return the GPUs that tasks here may be given. Simulated ones replace real ones."""
    if simulated:
        return simulated_view(simulated)
    if not os.path.exists(_NVIDIA_CONTROL):  # noqa: PTH110
        return given_view(environ, is_amd=os.path.exists(_AMD_CONTROL))  # noqa: PTH110
    from sflow_agent.node.nvml import ask_driver  # half a second, only where there is a driver

    answers = ask_driver()
    if answers is None:
        problem = "the NVIDIA driver cannot be asked: libnvidia-ml.so.1 is not here"
        return given_view(environ, is_amd=False, problems=(problem,))
    return _with_topology(nvidia_view(answers, environ))


def _with_topology(view: GpuView) -> GpuView:
    """Return a view whose GPUs say what they are near to."""
    from sflow_agent.node.nvml import ask_places
    from sflow_agent.node.topology import with_topology

    buses, linked = ask_places([gpu.uuid for gpu in view.gpus])
    return replace(view, gpus=with_topology(view.gpus, buses, linked, _SYSFS))


def take_inventory(view: GpuView) -> Inventory:
    """Return host, CPUs, memory, and the GPUs of `view`."""
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return Inventory(
        host=socket.gethostname(),
        cpus=len(os.sched_getaffinity(0)),
        cpus_online=os.cpu_count() or 1,
        cpus_given=int(given) if given.isdecimal() else None,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=view.gpus,
        counts_gpus=view.is_counted,
        gpu_problems=view.problems,
        open_files=inherited_limit(),
        python=f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}",
    )
