"""Asks NVIDIA's driver about the memory of GPUs. Imported only for an inspection of a node with GPUs."""

import contextlib
from typing import Any

import pynvml

from protocol.messages.inspection import GpuHealth


def gpu_health(uuids: tuple[str, ...]) -> tuple[str, tuple[GpuHealth, ...]]:
    """Return (the driver's version, problems) of the GPUs of these names. GPUs without problems are left out.

    Raises: OSError when the driver does not answer.
    """
    try:
        pynvml.nvmlInit()
        try:
            version = pynvml.nvmlSystemGetDriverVersion()
            found = tuple(_health(index, uuid) for index, uuid in enumerate(uuids) if uuid)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise OSError(0, f"the NVIDIA driver says: {error}") from error
    return str(version), tuple(one for one in found if one != GpuHealth(index=one.index))


def _health(index: int, uuid: str) -> GpuHealth:
    """Return the problems of one GPU; each question is answered by some kinds of GPU only."""
    handle: Any = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    errors, is_pending, has_failed = 0, False, False
    with contextlib.suppress(pynvml.NVMLError):
        kind, since = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        errors = int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, since))
    with contextlib.suppress(pynvml.NVMLError):
        _, _, pending, failed = pynvml.nvmlDeviceGetRemappedRows(handle)
        is_pending, has_failed = bool(pending), bool(failed)
    return GpuHealth(
        index=index, uncorrected_errors=errors, is_remap_pending=is_pending, has_remap_failed=has_failed
    )
