"""Facts that need psutil or NVML. Imported once the agent works, or at once where a GPU driver exists."""

import contextlib
import socket

from protocol.messages import Gpu


def addresses() -> tuple[tuple[str, str], ...]:
    """(interface, address) pairs of this node, IPv4 and IPv6, without link-layer addresses."""
    import psutil

    return tuple(
        (interface, entry.address)
        for interface, entries in sorted(psutil.net_if_addrs().items())
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    )


def visible_gpus(cuda_visible_devices: str | None) -> tuple[Gpu, ...]:
    """The GPUs NVML shows, in PCI order, cut to what this process was given. None means all of them.

    `cuda_visible_devices` may hold indices or (unique beginnings of) UUIDs, MIG ones included. Source: CUDA
    programming guide, environment variables: the list ends at the first entry that names no device.
    """
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        found = [_describe(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return ()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return select_visible(tuple(found), cuda_visible_devices)


def select_visible(gpus: tuple[Gpu, ...], cuda_visible_devices: str | None) -> tuple[Gpu, ...]:
    """The GPUs that the variable leaves visible, renumbered from 0 in its order, as CUDA does."""
    if cuda_visible_devices is None:
        return gpus
    chosen: list[Gpu] = []
    for entry in cuda_visible_devices.split(","):
        name = entry.strip()
        if name.isdecimal():
            match = [gpu for gpu in gpus if gpu.index == int(name)]
        else:
            match = [gpu for gpu in gpus if name and gpu.uuid.startswith(name)]
        if len(match) != 1 or match[0] in chosen:
            break
        chosen.append(match[0])
    return tuple(
        Gpu(index=index, uuid=gpu.uuid, name=gpu.name, memory_bytes=gpu.memory_bytes)
        for index, gpu in enumerate(chosen)
    )


def _describe(pynvml: object, index: int) -> Gpu:
    nvml: object = pynvml
    handle = nvml.nvmlDeviceGetHandleByIndex(index)  # type: ignore[attr-defined]
    name = nvml.nvmlDeviceGetName(handle)  # type: ignore[attr-defined]
    uuid = nvml.nvmlDeviceGetUUID(handle)  # type: ignore[attr-defined]
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]
    return Gpu(index=index, uuid=_text(uuid), name=_text(name), memory_bytes=int(memory.total))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
