"""What this node has, as far as it takes no time to find out. Slower facts are in `telemetry.py`."""

import os
import socket
import sys
from collections.abc import Mapping

from protocol.messages import Gpu, Inventory
from sflow_agent.runtime.open_files import inherited_limit

_NVIDIA_CONTROL = "/dev/nvidiactl"


def take_inventory(simulated_gpus: int) -> Inventory:
    """Host, CPUs, memory and GPUs. Simulated GPUs replace real ones."""
    gpus = _gpus(simulated_gpus)
    return Inventory(
        host=socket.gethostname(),
        cpus=len(os.sched_getaffinity(0)),
        cpus_online=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=gpus,
        counts_gpus=bool(gpus) or os.path.exists(_NVIDIA_CONTROL),  # noqa: PTH110
        open_files=inherited_limit(),
        python=f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}",
    )


def _given_by_slurm(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """GPUs that NVML cannot describe (another maker's, or a stand-in's), counted by what the job step was given."""
    given = environ.get("CUDA_VISIBLE_DEVICES", "") if "SLURM_STEP_ID" in environ else ""
    return tuple(Gpu(index=index, uuid="") for index, name in enumerate(given.split(",")) if name)


def _gpus(simulated: int) -> tuple[Gpu, ...]:
    if simulated:
        return tuple(
            Gpu(index=index, uuid=f"GPU-simulated-{index}", name="simulated", simulated=True)
            for index in range(simulated)
        )
    if not os.path.exists(_NVIDIA_CONTROL):  # noqa: PTH110
        return _given_by_slurm(os.environ)
    from sflow_agent.runtime.telemetry import (
        visible_gpus,
    )  # NVML: half a second, only where there is a driver

    return visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))
