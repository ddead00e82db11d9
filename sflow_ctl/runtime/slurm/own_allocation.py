"""An allocation made for the run: requested with salloc, cancelled on every way out, also when this process is killed."""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from protocol.errors import AllocationError
from sflow_ctl.batch.memory import without_replaced_memory
from sflow_ctl.batch.slurm_request import SlurmRequest
from sflow_ctl.planner.launch.arguments import replaced_arguments
from sflow_ctl.runtime.slurm.allocation import Allocation, allocation_of
from sflow_ctl.slurm.step_command import outside_of_job

RELEASE_WITHIN_S = 90.0


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
        guards += map(_guard, commands)
        yield tuple(allocation_of(_wait_for_grant(guard, say)) for guard in guards)
    finally:
        for guard in guards:
            assert guard.stdin is not None
            guard.stdin.close()
        for guard in guards:
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.wait(RELEASE_WITHIN_S)
            assert guard.stdout is not None
            guard.stdout.close()


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
