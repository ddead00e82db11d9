"""Asks NVIDIA's driver how busy GPUs are. Imported only when a task needs it: it takes half a second."""

import pynvml


def gpu_use(uuids: tuple[str, ...]) -> dict[str, int | None]:
    """Return the percentage of the driver's last sample in which each GPU computed; None if unknown (instances, e.g.).

    Raises: OSError when the driver does not answer.
    """
    try:
        pynvml.nvmlInit()
        try:
            return {uuid: _percent(uuid) for uuid in uuids}
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise OSError(0, f"the NVIDIA driver says: {error}") from error


def _percent(uuid: str) -> int | None:
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except (
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_NoPermission,
        pynvml.NVMLError_InvalidArgument,
        pynvml.NVMLError_NotFound,
    ):
        return None
