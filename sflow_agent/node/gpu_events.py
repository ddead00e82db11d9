"""Waits for errors of this node's GPUs in NVIDIA's driver. Called in a thread, since it blocks; `gpu_watch.py` does so.

An error is an event (Xid, uncorrectable memory error), or the answer of the driver that a GPU is lost or needs a reset.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import pynvml
from msgspec import Struct, field

from sflow_agent.node.gpu_errors import text_of_xid

LOST = "the driver has lost it"
NEEDS_RESET = "the driver says that it must be reset"


class GpuEvents(Struct):
    """The errors of some GPUs, by UUID; an instance of a GPU is lost with its GPU."""

    uuids: Sequence[str]
    _handles: dict[str, Any] = field(default_factory=dict)
    """Of the whole GPUs, by the UUID that the agent has."""
    _set: Any = None

    def wait(self, within_ms: int) -> dict[str, str]:
        """Return why GPUs were lost since the last call, by UUID; wait for the first error, at most so long.

        Raises: OSError when the driver does not answer.
        """
        try:
            if self._set is None:
                self._open()
            found = self._next_event(within_ms)
            return found or self._ask_all()
        except pynvml.NVMLError as error:
            self._close()
            raise OSError(0, f"the NVIDIA driver says: {error}") from error

    def _open(self) -> None:
        pynvml.nvmlInit()
        self._set = pynvml.nvmlEventSetCreate()
        wanted = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
        for uuid in self.uuids:
            try:
                handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                if uuid.startswith("MIG-"):
                    handle = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
                self._handles[uuid] = handle
                kinds = wanted & pynvml.nvmlDeviceGetSupportedEventTypes(handle)
                if kinds:
                    pynvml.nvmlDeviceRegisterEvents(handle, kinds, self._set)
            except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_GpuIsLost):
                continue  # asked for by `_ask_all`

    def _next_event(self, within_ms: int) -> dict[str, str]:
        try:
            event = pynvml.nvmlEventSetWait_v2(self._set, within_ms)
            name = pynvml.nvmlDeviceGetUUID(event.device)
        except (pynvml.NVMLError_Timeout, pynvml.NVMLError_GpuIsLost):
            return {}
        why = (
            "uncorrectable memory error"
            if event.eventType == pynvml.nvmlEventTypeDoubleBitEccError
            else text_of_xid(int(event.eventData))
        )
        lost = [uuid for uuid, handle in self._handles.items() if _uuid_of(handle) == name]
        return {} if why is None else dict.fromkeys(lost, why)

    def _ask_all(self) -> dict[str, str]:
        """Return the GPUs that do not answer any more: not every loss is an event."""
        found: dict[str, str] = {}
        for uuid in self.uuids:
            try:
                handle = self._handles.get(uuid) or pynvml.nvmlDeviceGetHandleByUUID(uuid)
                pynvml.nvmlDeviceGetMemoryInfo(handle)
            except pynvml.NVMLError_GpuIsLost:
                found[uuid] = LOST
            except pynvml.NVMLError_ResetRequired:
                found[uuid] = NEEDS_RESET
            except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission):
                continue
        return found

    def _close(self) -> None:
        self._set = None
        self._handles.clear()
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _uuid_of(handle: Any) -> str | bytes | None:
    try:
        uuid: str | bytes = pynvml.nvmlDeviceGetUUID(handle)
    except pynvml.NVMLError:
        return None
    return uuid
