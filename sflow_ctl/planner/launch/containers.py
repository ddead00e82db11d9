"""The `docker` and `container` operators, and the tasks of docker backends: what an agent must know to run a task in a container.

Names of engines are checked with the file (`schema.CHOICES`) and the settings.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

from protocol.messages.rank_spec import Container, EngineChoice
from sflow_ctl.format import schema
from sflow_ctl.format.rules.operators import operator_findings
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.launch.arguments import replaced_arguments, split_arguments
from sflow_ctl.planner.numbers import as_flag, at


def operator_of_backend(backend: schema.Backend, value: Callable[[Any], Any]) -> schema.Operator:
    """Return the operator of a docker backend's tasks that name none. Raises: UnplannableError, ExpressionError."""
    given = {
        name: value(getattr(backend, name))
        for name in ("image", "runtime", "mounts", "workdir", "extra_args")
    }
    for name in ("image", "runtime", "workdir"):
        given[name] = None if given[name] is None else str(given[name])
    for name in ("mounts", "extra_args"):
        given[name] = [str(one) for one in given[name]]
    operator = schema.Operator(name=f"default_{backend.name}", type="docker_run", **given)
    for finding in operator_findings(operator, lambda *_: ""):
        raise UnplannableError(
            finding.code, f'backend "{backend.name}": {finding.what}', finding.hint, ("backend",)
        )
    return operator


def docker_container(
    operator: schema.Operator, directories: Sequence[str], more: Sequence[str], is_here: bool
) -> Container:
    """Return a container as `docker run` makes it; of the run's `directories` it sees those that the operator asks for.

    `more` are options of the command line, which win over the operator's. `is_here` is false on hosts, which need not
    have these directories. Raises: NumberError.
    """
    sees_run = _flag(operator, "auto_mount_runtime_dirs", operator.type == "docker_run" and is_here)
    assert operator.image is not None
    return Container(
        engine=cast("EngineChoice", operator.runtime or "docker"),
        image=operator.image,
        workdir=operator.workdir,
        mounts=tuple(operator.mounts),
        directories=_outermost(directories) if sees_run else (),
        gpus=None if operator.gpus is None else str(operator.gpus),
        pass_envs=_flag(operator, "pass_envs", True),
        extra_args=replaced_arguments(split_arguments(operator.extra_args), more),
    )


def any_container(operator: schema.Operator, directories: Sequence[str], engine: str) -> Container:
    """Return a container of the operator's engine, else of `engine`, that sees the run's `directories` at the same paths.

    Raises: NumberError.
    """
    assert operator.image is not None
    return Container(
        engine=cast("EngineChoice", operator.engine or engine),
        image=operator.image,
        workdir=operator.workdir,
        mounts=tuple(operator.mounts),
        directories=_outermost(directories),
        gpus=None if operator.gpus is None else str(operator.gpus),
        pass_envs=_flag(operator, "pass_envs", True),
        is_writable=_flag(operator, "writable", True),
        mounts_home=_flag(operator, "mount_home", False),
        remaps_root=None
        if operator.remap_root is None
        else at(("operator", "remap_root"), as_flag, operator.remap_root),
        network=operator.network or "host",
        extra_args=split_arguments(operator.extra_args),
    )


def _flag(operator: schema.Operator, field: str, default: bool) -> bool:
    written = getattr(operator, field)
    return default if written is None else at(("operator", field), as_flag, written)


def _outermost(directories: Sequence[str]) -> tuple[str, ...]:
    """Return the directories that are not inside another one."""
    chosen = dict.fromkeys(directories)
    return tuple(
        path
        for path in chosen
        if not any(path != other and path.startswith(f"{other.rstrip('/')}/") for other in chosen)
    )
