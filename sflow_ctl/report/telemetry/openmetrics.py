"""The newest measurements in the text format of OpenMetrics. Pure; `runtime/telemetry/publishing.py` writes or serves it.

Source: the OpenMetrics specification 1.0: names end with their unit, counters with `_total`, the text with `# EOF`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sflow_ctl.report.telemetry.series import Series


class _Metric(NamedTuple):
    name: str
    """With its unit."""
    help: str
    column: str
    factor: float
    is_counter: bool = False


_TASK = (
    _Metric("sflow_task_cpu_seconds", "CPU time of a task's processes", "cpu_ms", 0.001, True),
    _Metric("sflow_task_resident_memory_bytes", "Memory of a task's processes", "rss_kib", 1024),
    _Metric("sflow_task_proportional_memory_bytes", "Memory with its share of shared pages", "pss_kib", 1024),
    _Metric("sflow_task_read_bytes", "Bytes that a task has read", "read_kib", 1024, True),
    _Metric("sflow_task_written_bytes", "Bytes that a task has written", "written_kib", 1024, True),
    _Metric("sflow_task_disk_read_bytes", "Bytes read from disks", "disk_read_kib", 1024, True),
    _Metric("sflow_task_disk_written_bytes", "Bytes written to disks", "disk_written_kib", 1024, True),
    _Metric("sflow_task_processes", "Processes of a task", "processes", 1),
    _Metric("sflow_task_threads", "Threads of a task", "threads", 1),
    _Metric("sflow_task_descriptors", "Open descriptors of a task", "descriptors", 1),
    _Metric("sflow_task_gpu_busy_seconds", "A task's share of the time of GPUs", "gpu_busy_ms", 0.001, True),
    _Metric("sflow_task_gpu_memory_bytes", "Memory of GPUs that a task has", "gpu_memory_mib", 1 << 20),
    _Metric("sflow_task_gpu_energy_joules", "A task's share of GPU energy", "energy_mj", 0.001, True),
)
_GPU = (
    _Metric("sflow_gpu_utilization_ratio", "Share of the time in which it computed", "percent", 0.01),
    _Metric("sflow_gpu_memory_used_bytes", "Used memory of a GPU", "memory_mib", 1 << 20),
    _Metric("sflow_gpu_power_watts", "Power of a GPU", "power_mw", 0.001),
    _Metric("sflow_gpu_energy_joules", "Energy since the driver was loaded", "energy_mj", 0.001, True),
    _Metric("sflow_gpu_temperature_celsius", "Temperature of a GPU", "temperature_c", 1),
    _Metric("sflow_gpu_sm_clock_hertz", "Clock of its processors", "sm_mhz", 1e6),
    _Metric("sflow_gpu_memory_clock_hertz", "Clock of its memory", "memory_mhz", 1e6),
    _Metric("sflow_gpu_ecc_corrected_errors", "Corrected memory errors", "ecc_corrected", 1, True),
    _Metric("sflow_gpu_ecc_uncorrected_errors", "Uncorrected memory errors", "ecc_uncorrected", 1, True),
    _Metric("sflow_gpu_nvlink_received_bytes", "Bytes received by NVLink", "nvlink_rx_kib", 1024, True),
    _Metric("sflow_gpu_nvlink_sent_bytes", "Bytes sent by NVLink", "nvlink_tx_kib", 1024, True),
)
_NODE = (
    _Metric(
        "sflow_node_cpu_busy_seconds", "Time that all CPUs together were busy", "cpu_busy_ms", 0.001, True
    ),
    _Metric("sflow_node_memory_used_bytes", "Memory in use on the node", "memory_used_kib", 1024),
)
_OF_KIND = {"task": _TASK, "gpu": _GPU, "node": _NODE}


def openmetrics_text(series: Iterable[Series]) -> str:
    """Return the newest values of these series."""
    lines: list[str] = []
    by_kind: dict[str, list[Series]] = {}
    for one in series:
        by_kind.setdefault(one.kind, []).append(one)
    for kind, metrics in _OF_KIND.items():
        for metric in metrics:
            samples = [
                f"{metric.name}{'_total' if metric.is_counter else ''}{{{_labels(one)}}} {_number(value * metric.factor)}"
                for one in by_kind.get(kind, ())
                if (value := one.last(metric.column)) is not None
            ]
            if samples:
                kind_of = "counter" if metric.is_counter else "gauge"
                lines += [f"# TYPE {metric.name} {kind_of}", f"# HELP {metric.name} {metric.help}", *samples]
    return "\n".join([*lines, "# EOF", ""])


def _labels(series: Series) -> str:
    labels = {"node": series.node_name}
    if (attempt := series.attempt) is not None:
        labels |= {"task": attempt.task, "attempt": str(attempt.number)}
    elif series.kind == "gpu":
        labels |= {"gpu": series.labels.get("index", ""), "uuid": series.name}
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0")
