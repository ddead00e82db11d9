"""`sflow-ctl exec`: runs a command beside a task, on its node, in its environment.

`sflow_agent/enter.py` does that on the node. Where that is another one, an `srun` of the task's Slurm job starts it: it has the
terminal, its size and its signals.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click

from protocol.errors import LaunchError, UsageError
from protocol.ids import AttemptId, RankId
from protocol.machine.marks import RANK_MARKER, RUN_MARKER
from protocol.machine.procfs import environment
from protocol.messages.facts import RankStarted
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.steering.target import target_run_and_tasks
from sflow_ctl.core.events import MessageReceived
from sflow_ctl.core.states import LIVE, TaskState
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.runtime.operating.client import check_alive
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.viewing.journal_feed import JournalFeed
from sflow_ctl.slurm.step_command import outside_of_job, step_environment

_PR_SET_PDEATHSIG = 1
_COMMAND = "sflow-ctl.command"


class _WithCommand(click.Command):
    """Keeps what follows `--` apart: it is not an argument of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what comes before `--`."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_COMMAND] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


@click.command(name="exec", cls=_WithCommand)
@click.argument(
    "words", nargs=-1, required=True, metavar="[RUN] TASK [-- COMMAND...]", shell_complete=complete_words
)
@click.option(
    "--rank",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of a task with several processes.",
)
@output_dir_option
@click.pass_context
def exec_(context: click.Context, words: tuple[str, ...], rank: int, output_dir: Path) -> int:
    """Run a command beside a running task: on its node, with its environment, GPUs and directory, in its container.

    TASK is one task, as bench, or one replica, as decode[2]. Without a command it is a shell. It has this terminal; its exit
    status is that of exec. What it starts ends with it, and with the task: it does not belong to the task. On another node it
    needs a Slurm job, whose srun starts it.
    """
    reader, tasks = target_run_and_tasks(words, output_dir)
    if len(tasks) != 1:
        names = ", ".join(tasks[:8]) or "none"
        raise UsageError.of("one-task", "exec needs one running task", hint=f"named are: {names}")
    check_alive(reader)
    reader.refresh()
    record = reader.state.tasks[tasks[0]]
    if record.state not in LIVE or record.state is TaskState.STARTING:
        what = f"{record.name} does not run: it is {record.state}"
        raise UsageError.of("not-running", what, hint="sflow-ctl status shows which tasks do")
    wanted = RankId(AttemptId(record.name, record.attempts), rank)
    node, pid = _place_of(reader, wanted)
    is_terminal = os.isatty(0) and os.isatty(1)
    variables = environment(pid)
    run = reader.facts.marker
    is_here = {f"{RUN_MARKER}={run}".encode(), f"{RANK_MARKER}={wanted}".encode()} <= set(variables)
    parent = str(os.getpid()) if is_here else "0"
    enter = [sys.executable, "-I", "-X", "utf8", "-m", "sflow_agent.enter", str(pid), run, str(wanted)]
    enter += [parent, str(int(is_terminal)), *context.meta[_COMMAND]]
    if is_here:
        return _run(enter, dict(os.environ))
    argv = [*_srun(reader, reader.head.nodes[node], is_terminal), *enter]
    return _run(argv, step_environment(outside_of_job(os.environ)))


def _place_of(reader: RunReader, wanted: RankId) -> tuple[int, int]:
    """Return the node and the pid of a rank. Raises: UsageError."""
    for entry in reversed(list(JournalFeed(reader.directory).entries((b'"rank_started"',)))):
        match entry.event:
            case MessageReceived(node=node, message=RankStarted(rank=rank, pid=pid)) if rank == wanted:
                return node, pid
    raise UsageError.of(
        "no-such-rank", f"{wanted.attempt} has no process {wanted.rank}", hint="they count from 0"
    )


def _srun(reader: RunReader, node: PlannedNode, is_terminal: bool) -> list[str]:
    """Return the beginning of a command that runs on a node of the run's job. Raises: LaunchError."""
    claim = read_claim(reader.directory / layout.CLAIM)
    job_id = "" if claim is None else claim.job_id
    if node.backend_type != "slurm" or not job_id:
        where = reader.facts.host if node.backend_type == "local" else node.name
        what = f"the task runs on {where}, and this is {socket.gethostname()}"
        raise LaunchError.of("not-here", what, hint=f"run sflow-ctl exec on {where}")
    options = [
        "--overlap",
        "--nodes=1",
        "--ntasks=1",
        "--mem=0",
        "--cpu-bind=none",
        "--mpi=none",
        "--unbuffered",
    ]
    options += ["--export=ALL", "--job-name=sflow-exec", *(["--pty"] if is_terminal else [])]
    return ["srun", f"--jobid={job_id}", f"--nodelist={node.name}", *options]


def _run(argv: list[str], variables: dict[str, str]) -> int:
    """Run a command that has this terminal, and ends if this process does; return its exit status. Raises: LaunchError."""
    prctl = ctypes.CDLL(None).prctl
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the terminal's are for the command

    def end_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)

    try:
        process = subprocess.Popen(argv, env=variables, preexec_fn=end_with_parent)
    except OSError as error:
        raise LaunchError.of("exec-failed", f"{argv[0]} cannot be started: {error.strerror}") from error
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: process.send_signal(got))
    status = process.wait()
    return status if status >= 0 else 128 - status
