"""What NVIDIA's driver says about the memory of GPUs. Imported only when a doctor asks and there are GPUs."""

import contextlib
from typing import Any

import pynvml

from protocol.messages.inspection import GpuHealth


def gpu_health(uuids: tuple[str, ...]) -> tuple[str, tuple[GpuHealth, ...]]:
    """(the driver's version, what is wrong) with the GPUs of these names. Those that are well are not in it.

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
    """Each question is answered by some kinds of GPU only."""
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
