"""The request of a batch job, or of each component of one whose backends ask for different things. Called by `batch_job.py`."""

from collections.abc import Iterator
from typing import Any

from protocol.errors import Finding, UsageError
from sflow_ctl.batch.slurm_request import SlurmRequest
from sflow_ctl.batch.slurm_time import slurm_time
from sflow_ctl.cli.options.batch_options import BatchOptions
from sflow_ctl.planner.context import JobNode
from sflow_ctl.planner.numbers import NumberError
from sflow_ctl.runtime.slurm.commands import default_account, default_partition


def notes_on_backends(
    options: BatchOptions, nodes_given: int | None, request: SlurmRequest
) -> Iterator[Finding]:
    """Yield what a user should know of a job that several backends share; `nodes_given` is the number of the command line."""
    if request.others:
        what = (
            f"one job for backends {request.backend} and {', '.join(request.others)}: "
            "they ask for the same partition, account, time and extra_args"
        )
        yield Finding("several-backends", what)
    if not request.parts:
        return
    names = ", ".join(str(one.backend) for one in (request, *request.parts))
    yield Finding(
        "several-backends", f"one heterogeneous job for backends {names}, each with a component of its own"
    )
    partition = options.layers.said.data.get("partition")
    given = {"-N": nodes_given, "-G": options.gpus_per_node, "-p": partition}
    without = [option for option, value in given.items() if value is not None]
    if without:
        what = f"{', '.join(without)} of the command line: each backend's own number or partition is used"
        yield Finding("file-wins", what)


def part_fields(request: SlurmRequest, time: str | None, warnings: list[Finding]) -> dict[str, Any]:
    """Return the partition, account, time and options of a job or component; `time` is the command line's.

    Raises: UsageError for what neither file, settings nor Slurm know.
    """
    return {
        "partition": _known("partition", "-p", request.partition, warnings),
        "account": _known("account", "-A", request.account, warnings),
        "time": request.time if time is None else _time(time),
        "allocation_args": request.extra_args,
    }


def expected_nodes(request: SlurmRequest, count: int | None) -> tuple[JobNode, ...] | None:
    """Return the nodes that a job will have, with the hosts that it names first; None where their number is unknown."""
    if count is None or request.backend is None:
        return None
    nodes: list[JobNode] = []
    for group, one in enumerate((request, *request.parts)):
        size = one.nodes or 1 if request.parts else count
        for index in range(size):
            name = one.hosts[index] if index < len(one.hosts) else f"{one.backend}-node{index}"
            component = group if request.parts else None
            nodes.append(JobNode(name, f"0.0.0.{len(nodes) + 1}", het_group=component))
    return tuple(nodes)


def _time(text: str) -> str:
    try:
        return slurm_time(text)
    except NumberError as error:
        raise UsageError.of("wrong-value", f"--time {error}", "--time") from error


def _known(what: str, option: str, asked: str | None, warnings: list[Finding]) -> str:
    """Return the partition or account: the one given, else the cluster's."""
    if asked:
        return asked
    detected = default_partition() if what == "partition" else default_account()
    if detected is None:
        hint = f"name one with {option}, in a slurm backend or in a site file"
        raise UsageError.of(f"{what}-unknown", f"the {what} of the job is unknown", hint=hint)
    text = f"{what} {detected} was found by asking Slurm"
    warnings.append(Finding(f"{what}-detected", text, hint=f"{option} names another"))
    return detected
