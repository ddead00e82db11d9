"""Monitors: what is measured of the nodes while a run, or one of its tasks, is on them."""

from typing import Annotated, Literal

from sflow_ctl.format.schema.values import COUNT, ONE, Flag, IntExpr, Part


class MonitorScope(Part, frozen=True, kw_only=True):
    """One thing to measure."""

    enabled: Flag = True
    """Measure it; false leaves it out."""
    interval: IntExpr | None = None
    """Milliseconds between two readings, at least 100. Default: the monitor's."""


class GpuScope(Part, frozen=True, kw_only=True):
    """GPUs, read from NVIDIA's driver."""

    enabled: Flag = True
    """Measure it; false leaves it out."""
    interval: IntExpr | None = None
    """Milliseconds between two readings, at least 100. Default: the monitor's."""
    fields: list[str] | None = None
    """Fields by nvidia-smi's names, of which the first is `index`. Default: utilization, temperatures, power, clocks, memory."""


class CustomScope(Part, frozen=True, kw_only=True):
    """A script of your own, which runs in the background on each node meanwhile."""

    enabled: Flag = True
    """Run it; false leaves it out."""
    script: Annotated[list[str], ONE]
    """Lines of the script, run by one bash. Its output is not kept: let it write a file."""


class MonitorScopes(Part, frozen=True, kw_only=True):
    """What is measured. Only the scopes that are given are active."""

    cpu: MonitorScope | None = None
    """Use of all CPUs together, and the load averages."""
    gpu: GpuScope | None = None
    """Use, temperatures, power, clocks and memory of each GPU."""
    memory: MonitorScope | None = None
    """Memory and swap of the node."""
    disk: MonitorScope | None = None
    """Space of the file system `/`."""
    network: MonitorScope | None = None
    """Bytes and packets of all interfaces but the loopback."""
    custom: CustomScope | None = None
    """A script of your own that measures something else."""


class MonitorNodes(Part, frozen=True, kw_only=True):
    """Which nodes are in the report. Default: those of the task, or all."""

    indices: list[IntExpr] | None = None
    """These nodes, by index from 0."""
    count: IntExpr | None = None
    """The first so many nodes."""
    exclude: IntExpr | list[IntExpr] | None = None
    """Not these nodes, by index from 0."""


class MonitorGpus(Part, frozen=True, kw_only=True):
    """Which GPUs of each node are in the report. Default: those of the task, or all."""

    indices: list[IntExpr] | None = None
    """These GPUs, by index from 0."""
    count: IntExpr | None = None
    """The first so many GPUs."""


class MonitorResources(Part, frozen=True, kw_only=True):
    """What is in the report of all that is measured."""

    nodes: Annotated[MonitorNodes, COUNT] | None = None
    """Which nodes, or how many; a number is short for `{count: NUMBER}`."""
    gpus: Annotated[MonitorGpus, COUNT] | None = None
    """Which GPUs of each node, or how many; a number is short for `{count: NUMBER}`."""
    used_by_tasks: Annotated[list[str], ONE] = []
    """Report on the nodes and GPUs of these tasks instead of the task's own."""


class WindowMark(Part, frozen=True, kw_only=True):
    """How the line is recognised at which the window starts or ends."""

    pattern: Annotated[list[str], ONE]
    """Texts, or regular expressions after `re:`, of which one is in the line."""
    select: Literal["first", "last"] | None = None
    """Which of several such lines counts. Default: the first start, and the last end after it."""


class MonitorWindow(Part, frozen=True, kw_only=True):
    """Report only on the time between two lines of the task's log."""

    start: str | list[str] | WindowMark
    """The line at which it starts; a text is short for `{pattern: TEXT}`."""
    end: str | list[str] | WindowMark
    """The line at which it ends; a text is short for `{pattern: TEXT}`."""


class NamedWindow(Part, frozen=True, kw_only=True):
    """A part of the task's time, between two lines of its log, whose use of CPUs and GPUs is in the summary."""

    name: str
    """The name of the window in the summary."""
    start: str | list[str] | WindowMark
    """The line at which it starts; a text is short for `{pattern: TEXT}`."""
    end: str | list[str] | WindowMark
    """The line at which it ends, by default the first one after the start; a text is short for `{pattern: TEXT}`."""


class MonitorReport(Part, frozen=True, kw_only=True):
    """The files that are made of the readings at the end of the run."""

    enabled: Flag = True
    """Make them; false keeps only the raw readings."""
    format: Annotated[list[Literal["csv", "svg", "png"]], ONE] = []
    """Kinds of files; `png` needs `pip install "sflow-ctl[png]"`. Default: csv and svg."""


class Monitor(Part, frozen=True, kw_only=True):
    """Measure the nodes of the run, or of a task, while it is on them."""

    interval: IntExpr = 5000
    """Milliseconds between two readings, at least 100."""
    scopes: MonitorScopes | None = None
    """What is measured. Default: cpu, gpu, memory, disk and network."""
    resources: MonitorResources | None = None
    """What of it is in the report. Default: the nodes and GPUs of the task; of the whole run for the workflow's monitor."""
    window: MonitorWindow | None = None
    """The part of the task's time that is in the report. Only for tasks. Default: from its start to its end."""
    report: MonitorReport | None = None
    """The files that are made at the end of the run. Default: tables and charts."""
