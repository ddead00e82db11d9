"""Computes how many GPUs a task needs from the memory that it needs. Imported for tasks with `count: auto`. Pure."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from protocol.text.counted import counted
from sflow_ctl.format import schema
from sflow_ctl.planner.context import JobNode
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import NumberError, as_bytes, as_count, at
from sflow_ctl.planner.phases.graph import Replica
from sflow_ctl.planner.tasks.scopes import TaskScopes

_PATH = ("resources", "gpus")
_GIB = 1 << 30


class SizedGpus(NamedTuple):
    """A number of GPUs, the memory that each must have, and how they were computed."""

    number: int
    gpu_bytes: int
    text: str


def size_copy(
    task: schema.Task, replica: Replica, scopes: TaskScopes, backend: schema.Backend, findings: Findings
) -> SizedGpus:
    """Return the GPUs for a copy of a task with `count: auto`, and note the arithmetic for a shown plan.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    found = sized_gpus(
        task, backend, scopes.of(task, replica).value, scopes.gpu_memory_here, scopes.job_nodes
    )
    findings.note("gpu-sizing", f'task "{replica.name}" gets {counted(found.number, "GPU")}: {found.text}')
    return found


def sized_gpus(
    task: schema.Task,
    backend: schema.Backend,
    value: Callable[[Any], Any],
    memory_here: Callable[[], int],
    job_nodes: Sequence[JobNode] | None = None,
) -> SizedGpus:
    """Return the GPUs for a task with `count: auto`. `memory_here` returns the memory of this machine's smallest GPU, 0 without.

    In a job the agents' figures count, once they have reported. Before that a plan that says nothing else is a first one, with
    the fewest GPUs: it only starts the agents.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    assert task.resources is not None
    assert task.resources.gpus is not None
    gpus = task.resources.gpus
    needed = at((*_PATH, "memory"), as_bytes, value(gpus.memory))
    safety = at((*_PATH, "safety"), _factor, value(gpus.safety))
    least = at((*_PATH, "min"), as_count, value(gpus.min), 1)
    multiple = at((*_PATH, "round_to"), as_count, value(gpus.round_to), 1)
    most = None if gpus.max is None else at((*_PATH, "max"), as_count, value(gpus.max), 1)
    found = _memory(task, backend, value, memory_here, job_nodes)
    if found is None:
        count = -(-least // multiple) * multiple
        return SizedGpus(count, 0, "until the agents of the job report the memory of their GPUs")
    each, source = found
    whole = int(needed * safety)
    exact = max(1, -(-whole // each))
    count = -(-max(exact, least) // multiple) * multiple
    text = f"{_gib(needed)} × {safety:g} / {_gib(each)} ({source}) = {whole / each:.3g}, so {counted(exact, 'GPU')}"
    if least > exact:
        text += f"; min is {least}"
    if count != max(exact, least):
        text += f"; rounded up to a multiple of {multiple}: {count}"
    if most is not None and count > most:
        what = f'task "{task.name}" needs {counted(count, "GPU")}, and max is {most}: {text}'
        hint = "raise max, lower memory or safety, or use nodes whose GPUs have more memory"
        raise UnplannableError("gpus-over-max", what, hint, (*_PATH, "max"))
    return SizedGpus(count, -(-whole // count), text)


def _factor(value: Any) -> float:
    try:
        factor = float(value)
    except (TypeError, ValueError):
        raise NumberError(f"must be a number, is {value!r}") from None
    if not 1 <= factor < 1000:
        raise NumberError(f"must be at least 1 and below 1000, is {value!r}")
    return factor


def _memory(
    task: schema.Task,
    backend: schema.Backend,
    value: Callable[[Any], Any],
    memory_here: Callable[[], int],
    job_nodes: Sequence[JobNode] | None,
) -> tuple[int, str] | None:
    """Return the memory of a GPU of the task's nodes, and who says so; None where agents have still to report it."""
    reported = []
    if backend.type == "slurm":
        reported = [one for one in job_nodes or () if one.backend in (None, backend.name)]
    known = [one for one in reported if one.gpu_bytes]
    if known:
        least = min(known, key=lambda one: one.gpu_bytes or 0)
        return least.gpu_bytes or 0, f"the smallest GPU of the job's nodes, on {least.name}"
    if backend.gpu_memory is not None:
        try:
            each = as_bytes(value(backend.gpu_memory))
        except NumberError as error:
            what = f'gpu_memory of backend "{backend.name}" {error}'
            raise UnplannableError("wrong-value", what, "e.g. gpu_memory: 80G", (*_PATH, "count")) from error
        if each:
            return each, f'gpu_memory of backend "{backend.name}"'
    if any(one.gpu_bytes is None for one in reported):
        return None
    each = 0 if reported else memory_here()
    if not each:
        what = f'task "{task.name}" has gpus: {{count: auto}}, and the memory of the GPUs is not known here'
        hint = f'say it in backend "{backend.name}": gpu_memory: 80G'
        raise UnplannableError("gpu-memory-unknown", what, hint, (*_PATH, "count"))
    return each, "the smallest GPU of this machine"


def _gib(size: int) -> str:
    return f"{size / _GIB:.4g} GiB"
