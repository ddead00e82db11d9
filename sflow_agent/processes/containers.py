"""Turns a rank that runs in a container into an ordinary rank whose command is an engine of this node."""

import errno
import os
from collections.abc import Callable

import msgspec

from protocol.machine.marks import RUN_MARKER
from protocol.messages.rank_spec import Container, RankSpec
from sflow_agent.launch.inherited import UNBUFFERED
from sflow_agent.node.gpu_view import GpuView, SliceError
from sflow_agent.node.interfaces import Interfaces
from sflow_agent.processes.cleanup import Cleanup
from sflow_agent.processes.spawn import SpawnError

_ENVIRONMENT = "SFLOW_ENVIRONMENT_"
"""Begins the names of variables that set up an environment in a container (`protocol.bootstrap`)."""
_SCRIPT = "SFLOW_TASK_SCRIPT"
"""Has a script that must not be on a command line; its interpreter in the container takes it from there."""


class Containers:
    """Facts that only this node knows: engines, the names of GPUs, existing directories."""

    def __init__(
        self,
        environment: dict[str, str],
        gpus: GpuView,
        interfaces: Interfaces,
        find: Callable[[str, str | None], str],
        log_path: Callable[[str], str],
    ) -> None:
        self._environment = environment
        self._gpus = gpus
        self._interfaces = interfaces
        self._find = find
        self._log_path = log_path

    def prepare(self, spec: RankSpec, container: Container) -> tuple[RankSpec, Cleanup | None]:
        """Return the rank as it can be started here, and its cleanup. Raises: SpawnError."""
        from sflow_agent.processes.engines import (  # not at every agent's start
            Inside,
            container_name,
            engine_command,
        )

        environment = {**self._environment, **spec.env, RUN_MARKER: self._environment[RUN_MARKER]}
        if container.image.startswith("-"):
            raise SpawnError(errno.EINVAL, f'its image "{container.image}" would be read as an option')
        engine = self._engine(container, environment.get("PATH"))
        # Engines refuse to mount a missing directory, and the controller may be making this one at the same
        # time.
        task_directory = self._log_path(spec.log).rpartition("/")[0]
        try:
            os.makedirs(task_directory, 0o700, exist_ok=True)  # noqa: PTH103
        except OSError as error:
            raise SpawnError(
                error.errno or 0, f"{task_directory} cannot be made: {error.strerror}"
            ) from error
        present = tuple(
            path
            for path in container.directories
            if container.is_elsewhere or os.path.isdir(path)  # noqa: PTH112
        )
        variables = {
            **dict([UNBUFFERED]),
            **spec.env,
            **self._interfaces.environment(environment),
            RUN_MARKER: environment[RUN_MARKER],
        }
        try:
            variables.update(self._gpus.environment(spec.gpus, environment))
            gpus = self._requested(spec, container)
        except SliceError as error:
            raise SpawnError(errno.ENODEV, str(error)) from error
        name = container_name(environment[RUN_MARKER], str(spec.rank))
        made = engine_command(
            engine,
            msgspec.structs.replace(container, directories=present),
            Inside(
                argv=spec.argv,
                name=name,
                run_id=spec.env.get("SFLOW_RUN_ID", environment[RUN_MARKER]),
                marker=environment[RUN_MARKER],
                variables=variables,
                always=(RUN_MARKER, *_always_passed(spec)),
                gpus=gpus,
                count=len(spec.gpus) if gpus or self._gpus.is_simulated else 0,
                home=environment.get("HOME"),
                user=(os.getuid(), os.getgid()),
                scratch=environment.get("TMPDIR", "/tmp"),
            ),
        )
        started = msgspec.structs.replace(spec, argv=made.argv, env={**spec.env, **made.env})
        if made.cleanup is None:
            return started, None
        return started, Cleanup(f"container {name}", made.cleanup, environment)

    def _requested(self, spec: RankSpec, container: Container) -> tuple[str, ...]:
        """Return the names of the rank's GPUs for its engine; none for simulated ones. Raises: SliceError."""
        if not container.requests_gpus:
            return ()
        # Nothing is known of another machine's GPUs but their numbers.
        return tuple(map(str, spec.gpus)) if container.is_elsewhere else self._gpus.engine_names(spec.gpus)

    def _engine(self, container: Container, path: str | None) -> str:
        from sflow_agent.processes.engines import candidates

        wanted = candidates(container.engine, container.is_elsewhere)
        for engine in wanted:
            try:
                self._find(engine, path)
            except SpawnError:
                continue
            return engine
        names = " or ".join(wanted)
        reason = f"it runs in a container, and this node has no {names} on PATH ({path or os.defpath})"
        raise SpawnError(errno.ENOENT, reason)


def _always_passed(spec: RankSpec) -> list[str]:
    """Return the variables that the container's command needs, whatever else of the environment it gets."""
    return [
        name for name in spec.env if name == _SCRIPT or (spec.bootstrap and name.startswith(_ENVIRONMENT))
    ]
