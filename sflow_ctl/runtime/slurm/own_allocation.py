"""An allocation made for the run: requested with salloc, cancelled on every way out, also when this process is killed."""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from protocol.errors import AllocationError
from sflow_ctl.batch.memory import without_replaced_memory
from sflow_ctl.batch.slurm_request import SlurmRequest, completed, slurm_requests
from sflow_ctl.planner.launch.arguments import replaced_arguments, split_arguments
from sflow_ctl.planner.phases.node_filter import NodeFilter
from sflow_ctl.runtime.slurm.allocation import Allocation, allocation_of
from sflow_ctl.runtime.supervision.lifeline import lifeline
from sflow_ctl.slurm.step_command import outside_of_job

if TYPE_CHECKING:
    from sflow_ctl.runtime.run.options import RunOptions
    from sflow_ctl.runtime.run.planning import ReadRun

RELEASE_WITHIN_S = 90.0
_held: dict[int, int] = {}


def salloc_argv(request: SlurmRequest, workflow: str, extra_args: Sequence[str]) -> tuple[str, ...]:
    """Return the format's own command (5.3), its arguments in that order; `extra_args` win over the request's."""
    argv = ["salloc"]
    for option, value in (
        ("--account", request.account),
        ("--partition", request.partition),
        ("--nodes", request.nodes),
        ("--time", request.time),
    ):
        if value is not None:
            argv += [option, str(value)]
    asked = without_replaced_memory(request.extra_args, extra_args)
    name = ("--job-name", request.job_name or workflow)
    return (*argv, *name, "--no-shell", *replaced_arguments(asked, extra_args))


def salloc_commands(
    read: "ReadRun", options: "RunOptions", name: str, backends: Sequence[str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the command that requests a job for each of these backends."""
    fleet = options.fleet
    said = replaced_arguments(split_arguments(fleet.extra_args), split_arguments(fleet.extra_salloc_args))
    commands = []
    for request in slurm_requests(read.loaded, NodeFilter(fleet.include_nodes, fleet.exclude_nodes)):
        if request.backend is not None and request.backend in backends:
            whole = completed(request, options.workflow.settings, read.found.settings)
            commands.append((request.backend, salloc_argv(whole, name, said)))
    return tuple(commands)


@contextlib.contextmanager
def own_allocations(
    commands: Sequence[Sequence[str]], say: Callable[[str], object]
) -> Iterator[tuple[Allocation, ...]]:
    """Yield the jobs that Slurm grants for these salloc commands, however long the queue is; release them at the end.

    All are requested at the same time. A guard process for each requests and holds its job: it cancels the job when
    this process is gone.

    Raises: AllocationError with salloc's message; no job is left then.
    """
    guards: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            guards.append(guard := _guard(command))
            assert guard.stdin is not None
            _held[guard.pid] = guard.stdin.fileno()
        yield tuple(allocation_of(_wait_for_grant(guard, say)) for guard in guards)
    finally:
        _let_go_elsewhere()
        for guard in guards:
            assert guard.stdin is not None
            guard.stdin.close()
        for guard in guards:
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.wait(RELEASE_WITHIN_S)
            assert guard.stdout is not None
            guard.stdout.close()


@contextlib.contextmanager
def adopted_allocations(guards: Mapping[int, int]) -> Iterator[None]:
    """Hold the jobs of a controller that was killed, by the pids of their guards to the descriptors; release them at the end."""
    line = lifeline()
    assert line is not None
    _held.update(guards)
    try:
        yield
    finally:
        _let_go_elsewhere()
        for descriptor in guards.values():
            os.close(descriptor)
        deadline = time.monotonic() + RELEASE_WITHIN_S
        left = set(guards)
        poller = select.poll()
        poller.register(line.fileno, select.POLLIN)
        while left and line.is_supervised and (left_s := deadline - time.monotonic()) > 0:
            left = {pid for pid in left if line.take_end(pid) is None}
            if left:
                poller.poll(left_s * 1000)


def held() -> dict[int, int]:
    """Return the guards of the run's own jobs: pid to the descriptor whose last copy holds the job."""
    return dict(_held)


def _let_go_elsewhere() -> None:
    """Have the supervisor close its copies: the run is over, and a guard waits for the last one."""
    line = lifeline()
    if _held and line is not None:
        line.finish()
    _held.clear()


def _guard(argv: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "sflow_ctl.runtime.slurm.allocation_guard", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=outside_of_job(os.environ),
        start_new_session=True,
    )


def _wait_for_grant(guard: "subprocess.Popen[bytes]", say: Callable[[str], object]) -> str:
    assert guard.stdout is not None
    stdout = guard.stdout.fileno()
    rest = b""
    job_id = ""
    while True:
        select.select([stdout], [], [])
        data = os.read(stdout, 4096)
        if not data:
            raise AllocationError.of(
                "allocation-failed", "the process that asks Slurm for nodes ended without a message"
            )
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            word, _, text = line.decode(errors="replace").partition(" ")
            if word == "job":
                job_id = text
                say(f"job {job_id}: waiting for its nodes")
            elif word == "granted":
                return job_id
            elif word == "failed":
                raise AllocationError.of(
                    "allocation-failed",
                    f"Slurm grants no nodes: {text}",
                    hint="correct the backend, or run inside a job",
                )
