"""Plans tasks whose work is done elsewhere: as a job of its own, by Slurm or a plug-in, or as what commands of the file start.

A process of an agent submits it and watches it; that needs no GPUs, and runs on this machine or on a node of the task.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from protocol.messages.jobs import CANCEL_VARIABLE, FIND_VARIABLE, JOB_VARIABLE, POLL_VARIABLE, JobSpec
from protocol.messages.rank_spec import JOB_PROGRAM
from protocol.plugins import BACKENDS, PluginError
from sflow_ctl.format import schema
from sflow_ctl.format.rules.slurm_keys import SLURM_KEYS, key_options, problem_of
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.launch.command import Command
from sflow_ctl.planner.launch.plugins import FindPlugin
from sflow_ctl.planner.numbers import as_int, as_seconds, at
from sflow_ctl.planner.placement.placed import PlacedTask

Value = Callable[[Any], Any]


def job_command(placed: PlacedTask, value: Value, script: str, find: FindPlugin) -> Command:
    """Return the command of the process that watches a task's work. Raises: UnplannableError, NumberError, ExpressionError."""
    task, backend = placed.task, placed.backend
    kind = "external" if task.external is not None else backend.type
    env: dict[str, str] = {}
    if task.external is not None:
        spec, env = _external(task, task.external, value)
    else:
        spec = _job(placed, value, find)
    encoded = msgspec.json.encode(spec).decode()
    return Command(
        name=backend.name if kind != "external" else "external",
        operator_kind=kind,
        launch_kind="process",
        argv=(JOB_PROGRAM, "bash", "-c", script),
        env={**env, JOB_VARIABLE: encoded},
    )


def _external(task: schema.Task, external: schema.External, value: Value) -> tuple[JobSpec, dict[str, str]]:
    def words(name: str) -> tuple[str, ...]:
        return tuple(str(value(one)) for one in getattr(external, name))

    success, failure = words("success"), words("failure")
    both = sorted({*success} & {*failure})
    if both:
        what = f'task "{task.name}": {", ".join(both)} cannot mean both success and failure'
        raise UnplannableError(
            "conflicting-keys", what, "keep each word in one of them", ("external", "failure")
        )
    commands = {POLL_VARIABLE: external.poll, CANCEL_VARIABLE: external.cancel, FIND_VARIABLE: external.find}
    spec = JobSpec(
        kind="commands",
        json=external.json or "",
        success=success,
        failure=failure,
        every_s=_every(external.every, value, ("external", "every")),
        lost_after_s=at(("external", "lost_after"), as_seconds, value(external.lost_after)),
    )
    return spec, {name: str(value(text)) for name, text in commands.items() if text is not None}


def _job(placed: PlacedTask, value: Value, find: FindPlugin) -> JobSpec:
    backend = placed.backend
    nodes = at(("backend", "nodes"), lambda one: as_int(one, 1), value(backend.nodes or 1))
    gpus = at(("backend", "gpus_per_node"), lambda one: as_int(one, 0), value(backend.gpus_per_node or 0))
    every_s = _every(backend.every, value, ("backend", "every"))
    name = str(value(backend.job_name)) if backend.job_name is not None else placed.replica.name
    if backend.type == "plugin":
        assert backend.plugin is not None
        try:
            find(BACKENDS, backend.plugin)
        except PluginError as error:
            what = f'backend "{backend.name}": {error}'
            raise UnplannableError("plugin", what, error.hint, ("backend",)) from error
        return JobSpec(
            kind="plugin",
            name=name,
            plugin=backend.plugin,
            plugin_options=value(backend.options),
            nodes=nodes,
            gpus_per_node=gpus,
            every_s=every_s,
        )
    options = _slurm_options(backend, value, nodes, gpus)
    return JobSpec(kind="slurm", name=name, options=options, nodes=nodes, gpus_per_node=gpus, every_s=every_s)


def _slurm_options(backend: schema.Backend, value: Value, nodes: int, gpus: int) -> tuple[str, ...]:
    """Return what `sbatch` is asked for. Raises: UnplannableError, NumberError, ExpressionError."""
    given = {name: value(getattr(backend, name)) for name in SLURM_KEYS if getattr(backend, name) is not None}
    for name, one in given.items():
        if (found := problem_of(name, one)) is not None:
            what = f'{name} of backend "{backend.name}": {found[0]}'
            raise UnplannableError("wrong-value", what, found[1], ("backend",))
    options = [f"--nodes={nodes}", *([f"--gpus-per-node={gpus}"] if gpus else [])]
    options += [
        f"--{name}={value(getattr(backend, name))}"
        for name in ("account", "partition")
        if getattr(backend, name) is not None
    ]
    if backend.time is not None:
        options.append(f"--time={_clock(at(('backend', 'time'), as_seconds, value(backend.time)))}")
    for option, hosts in (
        ("nodelist", backend.include_nodes),
        ("exclude", [*backend.exclude_nodes, *backend.exclude]),
    ):
        if hosts:
            options.append(f"--{option}={','.join(str(value(one)) for one in hosts)}")
    return (*options, *key_options(given), *_further(backend, value))


def _further(backend: schema.Backend, value: Value) -> Sequence[str]:
    from sflow_ctl.planner.launch.arguments import split_arguments  # few backends have any

    return split_arguments(value(backend.extra_args)) if backend.extra_args else ()


def _every(written: Any, value: Value, path: tuple[str, ...]) -> float:
    every_s = 10.0 if written is None else at(path, as_seconds, value(written))
    if every_s < 0.1:
        raise UnplannableError("wrong-value", f"{'.'.join(path)} must be at least 0.1 s", "e.g. 10s", path)
    return every_s


def _clock(seconds: float) -> str:
    """Return a time limit as Slurm reads it. Source: sbatch(1), "hours:minutes:seconds"."""
    whole = max(1, int(-(-seconds // 1)))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
