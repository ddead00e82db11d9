"""The raw files of monitors and their columns: a reading to a line, a line to rows of metrics. Pure.

Names, units and formats are those of sflow, whose readers look for them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from protocol.messages.monitor import Reading, Scope

FIELDS_PREFIX = "#fields="
UNKNOWN = "[N/A]"
"""As nvidia-smi writes a value that a GPU does not have."""
SIMULATED = "simulated"
"""The last field of a line, and the text of a row, about a GPU that is only counted."""
ERROR = "ERROR"
SYSTEM = "system"
"""The resource of what a node has once."""

_COLUMNS: dict[Scope, tuple[tuple[str, str], ...]] = {
    "cpu": (("cpu_utilization_pct", "%"), ("load_1m", "load"), ("load_5m", "load"), ("load_15m", "load")),
    "memory": (
        ("memory_total_kib", "KiB"),
        ("memory_available_kib", "KiB"),
        ("memory_used_kib", "KiB"),
        ("memory_used_pct", "%"),
        ("swap_total_kib", "KiB"),
        ("swap_free_kib", "KiB"),
    ),
    "disk": (
        ("disk_total_bytes", "bytes"),
        ("disk_used_bytes", "bytes"),
        ("disk_free_bytes", "bytes"),
        ("disk_used_pct", "%"),
    ),
    "network": (
        ("rx_bytes", "bytes"),
        ("tx_bytes", "bytes"),
        ("rx_bytes_per_s", "bytes/s"),
        ("tx_bytes_per_s", "bytes/s"),
        ("rx_packets_per_s", "packets/s"),
        ("tx_packets_per_s", "packets/s"),
    ),
}
"""Of each scope, (metric, unit) in the order of its raw file; a mount and a GPU's index come before."""
_ORDER = {
    scope: tuple(
        (position, metric, unit)
        for metric, unit, position in sorted((*one, i) for i, one in enumerate(columns))
    )
    for scope, columns in _COLUMNS.items()
}
"""(position in the raw file, metric, unit) in the order of the names."""
_GPU_METRICS: dict[str, tuple[str, str]] = {
    "utilization.gpu": ("gpu_utilization_pct", "%"),
    "utilization.memory": ("gpu_memory_utilization_pct", "%"),
    "temperature.gpu": ("gpu_temperature_c", "C"),
    "temperature.memory": ("gpu_memory_temperature_c", "C"),
    "power.draw": ("gpu_power_w", "W"),
    "clocks.sm": ("gpu_clocks_sm_mhz", "MHz"),
    "clocks.mem": ("gpu_clocks_mem_mhz", "MHz"),
    "memory.total": ("gpu_memory_total_mib", "MiB"),
    "memory.used": ("gpu_memory_used_mib", "MiB"),
}
_OTHER_UNITS = {
    "memory.free": "MiB",
    "power.limit": "W",
    "clocks.gr": "MHz",
    "fan.speed": "%",
    "energy.total": "J",
}
"""Units of fields whose metrics are called after them."""


class MetricRow(NamedTuple):
    """One value of one metric."""

    at_ms: int
    scope: Scope
    resource: str
    """`system`, a mount, or the number of a GPU."""
    metric: str
    value: float | None
    """None for a text."""
    unit: str
    text: str


class ScopeError(NamedTuple):
    """Why a scope could not be measured from a moment on."""

    at_ms: int
    text: str


def raw_name(scope: Scope, node: int, host: str) -> str:
    """Return the name of a raw file."""
    return f"{scope}_monitor_node_{node}_{host}.log"


def raw_head(scope: Scope, gpu_fields: Sequence[str]) -> str:
    """Return what a raw file begins with."""
    return f"{FIELDS_PREFIX}{','.join(gpu_fields)}\n" if scope == "gpu" else ""


def raw_line(reading: Reading) -> str:
    """Return the line of a reading, with its end."""
    at = f"{reading.at_ms // 1000}.{reading.at_ms % 1000:03d}"
    if reading.error:
        return f"{at},{ERROR},{' '.join(reading.error.split())}\n"
    fields = [_raw(value) for value in reading.values]
    if reading.is_simulated:
        fields.append(SIMULATED)
    return f"{at},{','.join(fields)}\n"


def _raw(value: float | str | None) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.2f}"
    return " ".join(str(value).replace(",", ";").split())


class RawReader:
    """Turns the lines of one raw file into rows; lines that are cut or damaged are skipped."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._gpu_fields: tuple[str, ...] = ()

    def rows(self, line: str) -> Iterator[MetricRow | ScopeError]:
        """Yield the rows of a line, or the error that it says."""
        if line.startswith(FIELDS_PREFIX):
            self._gpu_fields = tuple(line.removeprefix(FIELDS_PREFIX).strip().split(","))
            return
        if line.startswith("#") or not line.endswith("\n"):
            return
        time, _, rest = line.rstrip("\n").partition(",")
        seconds, _, thousandths = time.partition(".")
        if not (seconds.isdigit() and thousandths.isdigit()):
            return
        at_ms = int(seconds) * 1000 + int(thousandths[:3].ljust(3, "0"))
        if rest.startswith(f"{ERROR},"):
            yield ScopeError(at_ms, rest.partition(",")[2])
            return
        fields = rest.split(",")
        if self._scope == "gpu":
            yield from self._gpu_rows(at_ms, fields)
            return
        resource = fields.pop(0) if self._scope == "disk" and fields else SYSTEM
        if len(fields) == len(_COLUMNS[self._scope]):
            for position, metric, unit in _ORDER[self._scope]:
                yield MetricRow(at_ms, self._scope, resource, metric, _number(fields[position]), unit, "")

    def _gpu_rows(self, at_ms: int, fields: list[str]) -> Iterator[MetricRow]:
        is_simulated = fields[-1] == SIMULATED and len(fields) == len(self._gpu_fields) + 1
        if not is_simulated and len(fields) != len(self._gpu_fields):
            return
        note = SIMULATED if is_simulated else ""
        index = fields[0].strip()
        for name, text in zip(self._gpu_fields[1:], fields[1:], strict=False):
            if text == UNKNOWN:
                continue
            otherwise = f"gpu_{name.replace('.', '_')}", _OTHER_UNITS.get(name, "")
            metric, unit = _GPU_METRICS.get(name, otherwise)
            value = _number(text)
            yield MetricRow(at_ms, "gpu", index, metric, value, unit, note if value is not None else text)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
