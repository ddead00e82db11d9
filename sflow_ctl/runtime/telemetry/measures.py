"""Takes what agents measure and gives it to the recorders, that of monitors included. Telemetry is answered at once.

Nothing is loaded or made before the first message, so that a short run pays nothing.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.ids import RankId
from protocol.messages.facts import Measured, Sampled
from protocol.messages.orders import MeasuresTaken, ToAgent
from sflow_ctl.plan.model import PlannedNode

if TYPE_CHECKING:
    from sflow_ctl.report.telemetry.use import WindowUse
    from sflow_ctl.runtime.monitor.recorder import MonitorRecorder
    from sflow_ctl.runtime.telemetry.recorder import TelemetryRecorder


class Measures:
    """What agents have measured in one run."""

    def __init__(
        self,
        directory: Path,
        nodes: Sequence[PlannedNode],
        send: Callable[[int, ToAgent], None],
        warn: Callable[[str], None],
        openmetrics: str | int | None,
        monitor: "MonitorRecorder | None" = None,
    ) -> None:
        self._directory, self._nodes = directory, nodes
        self._send, self._warn = send, warn
        self._openmetrics, self._monitor = openmetrics, monitor
        self._recorder: TelemetryRecorder | None = None

    def take(self, node: int, message: Measured | Sampled, is_own: Callable[[int, RankId], bool]) -> None:
        """Take in a message of a node; `is_own` says of which ranks it may speak."""
        if isinstance(message, Sampled):
            if self._monitor is not None:
                self._monitor.take(node, message, is_own)
            return
        if self._recorder is None:
            from sflow_ctl.runtime.telemetry.recorder import TelemetryRecorder

            nodes = [(node.index, node.name) for node in self._nodes]
            self._recorder = TelemetryRecorder(self._directory, nodes, self._warn, self._openmetrics)
        self._recorder.take(node, message, is_own)
        self._send(node, MeasuresTaken(number=message.number))

    def close(self) -> "dict[str, list[WindowUse]]":
        """Write the rest; return what was used within the windows of each task, also of earlier controllers of the run."""
        if self._recorder is not None:
            self._recorder.close()
        from sflow_ctl.runtime.telemetry.files import WINDOWS, folder

        if not (folder(self._directory) / WINDOWS).exists():
            return {}
        from sflow_ctl.runtime.telemetry.windows import uses_of_windows  # few runs have windows

        return uses_of_windows(self._directory)
