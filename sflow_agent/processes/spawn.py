"""Starts the processes of ranks at the lowest cost: posix_spawn, a pipe for their output, their own session."""

import contextlib
import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from protocol.ids import RankId
from protocol.machine.marks import ATTEMPT_MARKER, RANK_MARKER, RUN_MARKER
from protocol.messages.rank_spec import JOB_PROGRAM, RankSpec
from protocol.messages.telemetry import MARKS_FILE
from sflow_agent.launch.direct import DirectCommands
from sflow_agent.limits import as_inherited, inherited_limit, marked
from sflow_agent.node.gpu_view import CUDA, NVIDIA, GpuView, SliceError
from sflow_agent.node.interfaces import Interfaces

if TYPE_CHECKING:
    from sflow_agent.environments import Environments

_ALL_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_WATCHER = (sys.executable, "-I", "-X", "utf8", "-m", "sflow_agent.jobs")
"""What watches the work of a task that is done elsewhere: with this agent's interpreter, whatever the task's environment is."""
_HERE = contextlib.nullcontext()
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
PLANNED_UUIDS = "SFLOW_PLANNED_GPU_UUIDS"
"""As sflow has it, `NODE=UUID,UUID`; of this node only."""


class SpawnError(Exception):
    """A rank's process could not be made: the system's number and a sentence for a person."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.errno = number
        self.reason = reason


def marks_path(log: str, rank: RankId) -> str:
    """Return the path of the file in which a rank marks its windows: beside its log, which containers can write, too."""
    return f"{log.rpartition('/')[0]}/.sflow_marks.{rank}"


class Spawner:
    """Starts ranks. Not thread-safe: it changes to a rank's working directory for a moment."""

    def __init__(
        self,
        base: str,
        environment: dict[str, str],
        gpus: GpuView,
        node: str,
        interfaces: Interfaces,
        direct: DirectCommands | None = None,
    ) -> None:
        """Without `direct`, bash is started for each script."""
        self._base = base
        self._node = node
        self._gpus = gpus
        self._interfaces = interfaces
        self._environment = environment
        self._home = os.getcwd()  # noqa: PTH109
        self._direct = direct
        self._programs: dict[tuple[str, str | None], str] = {}
        self._environments: Environments | None = None
        self.has_marks = False
        """Tasks get a file in which they can mark windows of their time."""

    @property
    def environments(self) -> "Environments":
        """What ranks share of the environments that are set up before their commands."""
        if self._environments is None:
            from sflow_agent.environments import Environments  # few runs have some

            self._environments = Environments()
        return self._environments

    def spawn(
        self,
        spec: RankSpec,
        open_output: Callable[[str], int | None],
        mark: int | None = None,
        files: tuple[int, ...] = (),
    ) -> tuple[int, int]:
        """Return (pid, wall time in ns) of the new process. Raises: SpawnError.

        `open_output` returns the descriptor that it prints to, given its log's path; None lets it print to
        the file. All processes that it starts inherit `mark`. It gets `files` of the agent as its descriptors from 3 on.
        """
        environment = self._environment_of(spec)
        argv = (*_WATCHER, *spec.argv[1:]) if spec.argv[0] == JOB_PROGRAM else spec.argv
        program = self.find(argv[0], environment.get("PATH"))
        log = self.log_path(spec.log)
        if spec.earlier_log is not None:
            self._keep_earlier_log(log, spec.earlier_log)
        try:
            output = open_output(log)
        except OSError as error:
            raise SpawnError(error.errno or 0, _explain_log(error, spec)) from error
        try:
            with self._in_directory(spec.cwd), as_inherited(), marked(mark):
                pid = self._spawn_direct(spec, argv, environment, log, output)
                if pid is None:
                    pid = _spawn(program, argv, environment, log, output, files)
        except OSError as error:
            raise SpawnError(error.errno or 0, _explain(error, program, spec)) from error
        except ValueError as error:  # a NUL in an argument or variable
            raise SpawnError(errno.EINVAL, f"its arguments or environment are not valid: {error}") from error
        finally:
            if output is not None:
                os.close(output)
        return pid, time.time_ns()

    def _spawn_direct(
        self,
        spec: RankSpec,
        argv: tuple[str, ...],
        environment: dict[str, str],
        log: str,
        output: int | None,
    ) -> int | None:
        """Return the pid of a script's one plain command; None if bash must be started, perhaps only to say what is wrong."""
        if self._direct is None or not (spec.cwd is None or spec.cwd == self._home):
            return None
        command = self._direct.command(argv, environment)
        if command is None:
            return None
        try:
            return _spawn(command.program, command.argv, command.environment, log, output, ())
        except (OSError, ValueError):
            return None

    def require(self, spec: RankSpec) -> None:
        """Check that the node has what the rank needs. Raises: SpawnError."""
        for artifact, path in spec.required_paths:
            try:
                os.stat(path)  # noqa: PTH116
            except OSError as error:
                is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
                what = "does not exist" if is_missing else f"cannot be used ({error.strerror})"
                reason = f'artifact "{artifact}": {path} {what} on node {self._node}'
                raise SpawnError(error.errno or 0, reason) from error

    def spawn_check(self, spec: RankSpec, argv: tuple[str, ...], output: int, main: int | None) -> int:
        """Start a program beside a rank: with its environment, directory and markers, in its own session; return the pid.

        Its output goes to the descriptor `output`; `main` is the rank's first process.

        Raises: SpawnError.
        """
        files: tuple[int, ...] = ()
        if spec.bootstrap is not None:
            spec, argv, files = self.environments.prepare_check(spec, spec.bootstrap, argv)
        environment = self._environment_of(spec)
        if main is not None:
            environment["SFLOW_TASK_PID"] = str(main)
        program = self.find(argv[0], environment.get("PATH"))
        try:
            with self._in_directory(spec.cwd), as_inherited():
                return os.posix_spawn(
                    program,
                    argv,
                    environment,
                    file_actions=(
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        _to(output),
                        (os.POSIX_SPAWN_DUP2, 1, 2),
                        *_as_third_and_on(files),
                    ),
                    setsid=True,
                    setsigdef=_ALL_SIGNALS,
                    setsigmask=(),
                )
        except OSError as error:
            raise SpawnError(error.errno or 0, _explain(error, program, spec)) from error
        except ValueError as error:
            raise SpawnError(errno.EINVAL, f"its arguments are not valid: {error}") from error

    def spawn_helper(self, argv: tuple[str, ...], request: int, output: int, errors: int) -> int:
        """Start a program of the agent's own, in its own session, with the run's marker and no rank's; return the pid.

        It reads `request`, and prints to `output` and `errors`. Raises: OSError.
        """
        with as_inherited():
            return os.posix_spawn(
                argv[0],
                argv,
                self._environment,
                file_actions=(
                    (os.POSIX_SPAWN_OPEN, 0, f"/proc/self/fd/{request}", os.O_RDONLY, 0),
                    _to(output),
                    (os.POSIX_SPAWN_OPEN, 2, f"/proc/self/fd/{errors}", os.O_WRONLY, 0),
                ),
                setsid=True,
                setsigdef=_ALL_SIGNALS,
                setsigmask=(),
            )

    def _environment_of(self, spec: RankSpec) -> dict[str, str]:
        environment = {**self._environment, **spec.env}
        environment.update(self._interfaces.environment(environment))
        environment[ATTEMPT_MARKER] = environment[RANK_MARKER] = str(spec.rank.attempt)
        if spec.rank.rank:
            environment[RANK_MARKER] = str(spec.rank)
        try:
            environment.update(self._gpus.environment(spec.gpus, environment))
            if spec.gpus and CUDA in environment and spec.container is None:
                environment[NVIDIA] = environment[CUDA]  # a container's runtime would read it as a request
            if spec.gpus and (uuids := self._gpus.uuids(spec.gpus)):
                environment[PLANNED_UUIDS] = f"{self._node}={','.join(uuids)}"
        except SliceError as error:
            raise SpawnError(errno.ENODEV, str(error)) from error
        environment[RUN_MARKER] = self._environment[RUN_MARKER]
        if self.has_marks:
            environment[MARKS_FILE] = marks_path(self.log_path(spec.log), spec.rank)
        return environment

    def log_path(self, relative: str) -> str:
        """Return where a log of the run is on this node."""
        return f"{self._base}/{relative}"

    def find(self, program: str, path: str | None) -> str:
        """Return the path of a program. Raises: SpawnError."""
        if "/" in program:
            return program
        key = (program, path)
        found = self._programs.get(key)
        if found is None:
            found = next(
                (
                    candidate
                    for directory in (path or os.defpath).split(os.pathsep)
                    if os.access(candidate := f"{directory or '.'}/{program}", os.X_OK)
                    and not os.path.isdir(candidate)  # noqa: PTH112
                ),
                None,
            )
            if found is None:
                raise SpawnError(errno.ENOENT, f'program "{program}" is not on PATH ({path or os.defpath})')
            self._programs[key] = found
        return found

    def _keep_earlier_log(self, log: str, earlier: str) -> None:
        try:
            os.rename(log, self.log_path(earlier))  # noqa: PTH104
        except FileNotFoundError:
            pass  # that attempt ran on another node
        except OSError as error:
            what = f"its earlier log {log} cannot be kept: {error.strerror}"
            raise SpawnError(error.errno or 0, what) from error

    def _in_directory(self, directory: str | None) -> contextlib.AbstractContextManager[None]:
        """Work in a rank's directory meanwhile. Raises: SpawnError."""
        return _HERE if directory is None or directory == self._home else self._in_another(directory)

    @contextlib.contextmanager
    def _in_another(self, directory: str) -> Iterator[None]:
        try:
            os.chdir(directory)
        except OSError as error:
            number = error.errno or 0
            raise SpawnError(number, f"working directory {directory}: {error.strerror}") from error
        try:
            yield
        finally:
            os.chdir(self._home)


def _spawn(
    program: str,
    argv: tuple[str, ...],
    environment: dict[str, str],
    log: str,
    output: int | None,
    files: tuple[int, ...],
) -> int:
    to_log = (os.POSIX_SPAWN_OPEN, 1, log, _LOG_FLAGS, 0o600)
    return os.posix_spawn(
        program,
        argv,
        environment,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            to_log if output is None else _to(output),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *_as_third_and_on(files),
        ),
        setsid=True,
        setsigdef=_ALL_SIGNALS,
        setsigmask=(),
    )


def _as_third_and_on(files: tuple[int, ...]) -> Iterator[tuple[int, int, str, int, int]]:
    """Return the file actions that open files of this process as descriptors from 3 on of the new one."""
    return (
        (os.POSIX_SPAWN_OPEN, number, f"/proc/self/fd/{one}", os.O_RDWR, 0)
        for number, one in enumerate(files, 3)
    )


def _to(output: int) -> tuple[int, int, int] | tuple[int, int, str, int, int]:
    """Return the file action that makes a pipe of this process the standard output of the new one.

    By name if its number is beyond the limit that tasks have: posix_spawn refuses to copy that.
    """
    soft, _ = inherited_limit()
    if soft != resource.RLIM_INFINITY and output >= soft:
        return (os.POSIX_SPAWN_OPEN, 1, f"/proc/self/fd/{output}", os.O_WRONLY, 0)
    return (os.POSIX_SPAWN_DUP2, output, 1)


def _interpreter_of(program: str) -> str:
    """Return the problem with the first line of a script whose interpreter does not exist."""
    try:
        with open(program, "rb") as file:  # noqa: PTH123
            first = file.readline(256)
    except OSError:
        first = b""
    words = first.removeprefix(b"#!").split(None, 1)
    if not first.startswith(b"#!") or not words:
        return "needs a loader or library that does not exist on this node"
    name = words[0].decode(errors="replace")
    if first.endswith(b"\r\n"):
        return f"has Windows line ends, so its interpreter is {name!r} with a carriage return: use dos2unix"
    return f'names an interpreter (its first line) that does not exist: "{name}"'


def _explain_log(error: OSError, spec: RankSpec) -> str:
    """Return why a log could not be opened."""
    if error.errno == errno.EACCES:
        return f"its log {spec.log} cannot be written: {error.strerror}"
    return f"its log {spec.log} cannot be made: {error.strerror}"


def _explain(error: OSError, program: str, spec: RankSpec) -> str:
    """Return why a start failed, and the fix. Source: execve(2)."""
    match error.errno:
        case errno.ENOENT if not os.path.exists(program):  # noqa: PTH110
            return f'program "{program}" does not exist on this node'
        case errno.ENOENT:
            return f'"{program}" {_interpreter_of(program)}'
        case errno.EACCES:
            return f'"{program}" is not executable: check its mode, and that its file system allows it'
        case errno.ENOEXEC:
            return f'"{program}" is not a program for this machine; a script needs a first line such as #!/bin/sh'
        case errno.E2BIG:
            size = sum(len(value) for value in (*spec.argv, *spec.env.values()))
            total = os.sysconf("SC_ARG_MAX")  # of the stack's limit here
            allowed = f"one argument may have 128 KiB, all together {total >> 10} KiB on this node"
            return f"its script and environment are too large ({size} bytes; {allowed})"
        case errno.EAGAIN:
            return "the limit of processes is reached: raise `ulimit -u`"
        case _:
            return f'"{program}" could not be started: {error.strerror}'
