"""The `docker` and `container` operators: what an agent must know to run a task in a container.

Names of engines are checked with the file (`schema.CHOICES`) and the settings.
"""

from collections.abc import Sequence
from typing import cast

from protocol.messages.rank_spec import Container, EngineChoice
from sflow_ctl.format import schema
from sflow_ctl.planner.numbers import as_flag, at


def docker_container(operator: schema.Operator, directories: Sequence[str]) -> Container:
    """Return a container as `docker run` makes it; of the run's `directories` it sees those that the operator asks for.

    Raises: NumberError.
    """
    sees_run = _flag(operator, "auto_mount_runtime_dirs", operator.type == "docker_run")
    assert operator.image is not None
    return Container(
        engine=cast("EngineChoice", operator.runtime or "docker"),
        image=operator.image,
        workdir=operator.workdir,
        mounts=tuple(operator.mounts),
        directories=_outermost(directories) if sees_run else (),
        gpus=None if operator.gpus is None else str(operator.gpus),
        pass_envs=_flag(operator, "pass_envs", True),
        extra_args=tuple(operator.extra_args),
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
        extra_args=tuple(operator.extra_args),
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
