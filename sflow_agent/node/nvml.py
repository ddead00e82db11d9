"""Asks NVIDIA's driver about the GPUs of this node.

Imported only where there is a driver: it takes half a second. A GPU that does not answer must not hide the
others, and facts that one kind of GPU does not have (its own memory, processes, partitions) are not errors.
Decides nothing; `gpu_view.py` interprets the answers.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pynvml

from protocol.messages.node import Gpu, GpuUser
from sflow_agent.node.gpu_view import Answers, Device

T = TypeVar("T")


def ask_driver() -> Answers | None:
    """Return the GPUs that this process may use. None without NVML's library: the driver cannot be asked."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return None
    except (
        pynvml.NVMLError
    ) as error:  # not loaded, not allowed, or not the library's version: CUDA will not work either
        return Answers((), (f"the NVIDIA driver says: {error}",))
    try:
        return _ask_all()
    except pynvml.NVMLError as error:
        return Answers((), (f"the NVIDIA driver says: {error}",))
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def ask_places(uuids: Sequence[str]) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the PCI name of each GPU, "" if unknown, and the pairs, by position, that NVLink connects."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [""] * len(uuids), []
    try:
        handles = [_whole_gpu(uuid) for uuid in uuids]
        linked = [
            (one, other)
            for other in range(len(handles))
            for one in range(other)
            if _are_linked(handles[one], handles[other])
        ]
        return [_bus_of(handle) for handle in handles], linked
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _whole_gpu(uuid: str) -> Any:
    """Return the GPU of that name, or that of an instance; None for one that does not answer."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        is_instance = uuid.startswith("MIG-")
        return pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle) if is_instance else handle
    except pynvml.NVMLError:
        return None


def _are_linked(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return False
    try:
        status = pynvml.nvmlDeviceGetP2PStatus(one, other, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    except pynvml.NVMLError:
        return False
    return bool(status == pynvml.NVML_P2P_STATUS_OK)


def _bus_of(handle: Any) -> str:
    if handle is None:
        return ""
    try:
        return _text(pynvml.nvmlDeviceGetPciInfo(handle).busId)
    except pynvml.NVMLError:
        return ""


def _ask_all() -> Answers:
    devices: list[Device] = []
    problems: list[str] = []
    number = 0
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            described = _describe(number, handle)
            if not described:
                problems.append(f"GPU {index} is in MIG mode and has no instances for this process")
        except pynvml.NVMLError_NoPermission:
            continue  # another job's: it is counted here, but not by CUDA. Source: nvmlDeviceGetCount_v2
        except pynvml.NVMLError as error:
            described = [Device(number, "", None)]
            problems.append(f"GPU {index} does not answer: {error}")
        devices += described
        number += 1
    return Answers(tuple(devices), tuple(problems))


def _describe(number: int, handle: Any) -> list[Device]:
    """Return the GPU, or its instances if it is partitioned. Raises: NVMLError when it does not answer."""
    uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    if _known(lambda: pynvml.nvmlDeviceGetMigMode(handle)[0], 0) != pynvml.NVML_DEVICE_MIG_ENABLE:
        return [Device(number, uuid, _facts(handle, uuid))]
    instances = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except (pynvml.NVMLError_NotFound, pynvml.NVMLError_NoPermission):
            continue  # places need not be taken in a row
        name = _text(pynvml.nvmlDeviceGetUUID(instance))
        ids = (pynvml.nvmlDeviceGetGpuInstanceId(instance), pynvml.nvmlDeviceGetComputeInstanceId(instance))
        older_name = f"MIG-{uuid}/{ids[0]}/{ids[1]}"
        instances.append(Device(number, uuid, _facts(instance, name), older_name))
    return instances


def _facts(handle: Any, uuid: str) -> Gpu:
    memory = _known(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle), None)
    processes: Sequence[Any] = _known(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle), ())
    return Gpu(
        index=0,
        uuid=uuid,
        name=_text(_known(lambda: pynvml.nvmlDeviceGetName(handle), "")),
        memory_bytes=0 if memory is None else int(memory.total),
        used_bytes=0 if memory is None else int(memory.used),
        users=tuple(_user(process.pid, process.usedGpuMemory) for process in processes),
    )


def _known(ask: Callable[[], T], otherwise: T) -> T:
    """Return the answer, or `otherwise` if this kind of GPU, driver or user gets none. Raises: NVMLError."""
    try:
        return ask()
    except (
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_FunctionNotFound,
        pynvml.NVMLError_NoPermission,
        pynvml.NVMLError_InvalidArgument,
    ):
        return otherwise


def _user(pid: int, memory_bytes: int | None) -> GpuUser:
    """Describe a process; a pid of another pid namespace has no meaning here."""
    owner = program = ""
    with contextlib.suppress(OSError, KeyError):
        import pwd

        owner = pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name  # noqa: PTH116
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as file:  # noqa: PTH123
        program = file.read().strip()
    return GpuUser(pid=pid, owner=owner, program=program, memory_bytes=memory_bytes)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
