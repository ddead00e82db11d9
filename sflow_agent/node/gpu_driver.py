"""NVIDIA's driver for those who ask it again and again: monitors, and hang policies about the use of GPUs.

They share one of these: the driver is opened once, since opening it takes longer than asking, and how busy a GPU is, is asked
once for all of them. Called in threads, because a broken driver may not answer. `nvml.py` finds out which GPUs there are.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
FRESH_S = 0.9
"""How long an answer about a GPU's use counts: the driver itself remembers its last second at most."""


class GpuDriver:
    """The driver, opened at the first question and again after an error."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._is_open = False
        self._handles: dict[str, Any] = {}
        self._used: dict[str, tuple[float, int | None]] = {}
        """By GPU, when it was last asked how busy it is, and its answer."""

    def each(self, uuids: Sequence[str], ask: Callable[[Any, Any, str], T]) -> list[T]:
        """Return an answer for each GPU; `ask` is called with the library, a handle and the name.

        Raises: OSError when the driver does not answer.
        """
        import pynvml  # half a second, and only where there is a driver

        try:
            self._open(pynvml)
            return [ask(pynvml, self._handle(pynvml, uuid), uuid) for uuid in uuids]
        except pynvml.NVMLError as error:
            self._close(pynvml)
            raise OSError(0, f"the NVIDIA driver says: {error}") from error

    def use(self, uuids: Sequence[str]) -> dict[str, int | None]:
        """Return the percentage of the driver's last sample in which each GPU computed; None if unknown (instances, e.g.).

        Raises: OSError when the driver does not answer.
        """
        now = self._clock()
        old = [uuid for uuid in uuids if uuid not in self._used or self._used[uuid][0] < now - FRESH_S]
        if old:
            import pynvml

            try:
                self._open(pynvml)
                for uuid in old:
                    self.note_use(uuid, self._percent(pynvml, uuid))
            except pynvml.NVMLError as error:
                self._close(pynvml)
                raise OSError(0, f"the NVIDIA driver says: {error}") from error
        return {uuid: self._used[uuid][1] for uuid in uuids}

    def note_use(self, uuid: str, percent: int | None) -> None:
        """Note how busy a GPU is, for the next question."""
        self._used[uuid] = (self._clock(), percent)

    def _percent(self, nvml: Any, uuid: str) -> int | None:
        try:
            return int(nvml.nvmlDeviceGetUtilizationRates(self._handle(nvml, uuid)).gpu)
        except (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_NoPermission,
            nvml.NVMLError_InvalidArgument,
            nvml.NVMLError_NotFound,
        ):
            return None

    def _handle(self, nvml: Any, uuid: str) -> Any:
        if uuid not in self._handles:
            self._handles[uuid] = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return self._handles[uuid]

    def _open(self, nvml: Any) -> None:
        with self._lock:
            if not self._is_open:
                nvml.nvmlInit()
                self._is_open = True

    def _close(self, nvml: Any) -> None:
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._handles.clear()
                with contextlib.suppress(nvml.NVMLError):
                    nvml.nvmlShutdown()
