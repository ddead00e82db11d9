"""`sflow-ctl exec`: runs a command beside a task, on its node, in its environment.

`sflow_agent/enter` does that on the node. Where that is another one, an `srun` of the task's Slurm job starts it: it has the
terminal, its size and its signals.
"""

import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
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
from sflow_ctl.plan.model import PlannedNode, PlannedTask
from sflow_ctl.planner.launch.srun import step_prelude
from sflow_ctl.runtime.operating.client import check_alive
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.viewing.journal_feed import JournalFeed
from sflow_ctl.slurm.step_command import outside_of_job, step_environment

_PR_SET_PDEATHSIG = 1
_COMMAND = "sflow-ctl.command"
_ENTER = [sys.executable, "-I", "-X", "utf8", "-m", "sflow_agent.enter"]
_FIND_WITHIN_S = 60


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
    help="Number of the process, of a task with several.",
)
@output_dir_option
@click.pass_context
def exec_(context: click.Context, words: tuple[str, ...], rank: int, output_dir: Path) -> int:
    """Run a command beside a running task: on its node, with its environment, GPUs and directory, in its container.

    TASK is one task, as bench, or one replica, as decode[2]. Without a command it is a shell. It has this terminal; its exit
    status is that of exec. What it starts ends with it, and with the task: it does not belong to the task. On another node it
    needs a Slurm job, whose srun starts it; beside a task of the ssh operator it runs on that task's machine.
    """
    reader, tasks = target_run_and_tasks(words, output_dir)
    if len(tasks) != 1:
        names = ", ".join(tasks[:8]) or "none"
        raise UsageError.of("one-task", "exec needs one running task", hint=f"named are: {names}")
    check_alive(reader, f"sflow-ctl logs --run RUN {shlex.quote(tasks[0])} shows what it printed")
    reader.refresh()
    record = reader.state.tasks[tasks[0]]
    if record.state not in LIVE or record.state is TaskState.STARTING:
        what = f"{record.name} does not run: it is {record.state}"
        raise UsageError.of("not-running", what, hint="sflow-ctl status shows which tasks do")
    wanted = RankId(AttemptId(record.name, record.attempts), rank)
    is_terminal = os.isatty(0) and os.isatty(1)
    (planned,) = [one for one in reader.plan.tasks if one.name == record.name]
    if planned.launch_kind == "step":
        node, is_here = _node_of_step(reader, planned, record.node or 0, rank)
        pid, process, prelude = 0, str(rank), step_prelude(planned.argv)
        wanted = RankId(wanted.attempt, 0)
    else:
        number, pid = _place_of(reader, wanted)
        node, process, prelude = reader.head.nodes[number].name, "-", ""
        variables = environment(pid)
        marks = {f"{RUN_MARKER}={reader.facts.marker}".encode(), f"{RANK_MARKER}={wanted}".encode()}
        is_here = marks <= set(variables)
    parent = str(os.getpid()) if is_here else "0"
    mode = "terminal" if is_terminal else "pipe"
    words_of_program = [str(pid), reader.facts.marker, str(wanted), process, parent, mode, prelude]
    enter = [*_ENTER, *words_of_program, *context.meta[_COMMAND]]
    if is_here:
        return _run(enter, dict(os.environ))
    srun = _srun(reader, [one for one in reader.head.nodes if one.name == node], is_terminal=is_terminal)
    return _run([*srun, *enter], step_environment(outside_of_job(os.environ)))


def _node_of_step(reader: RunReader, task: PlannedTask, first: int, process: int) -> tuple[str, bool]:
    """Return the name of the node of a step's process, and whether it is this machine. Raises: UsageError, LaunchError."""
    attempt = AttemptId(task.name, reader.state.tasks[task.name].attempts)
    find = [*_ENTER, "0", reader.facts.marker, str(RankId(attempt, 0)), str(process), "0", "find", ""]
    if subprocess.run(find, stdout=subprocess.DEVNULL, check=False).returncode == 0:
        return reader.head.nodes[first].name, True
    place = reader.head.nodes[first]
    if task.node_count == 1 and not task.chooses_step_nodes:
        return place.name, False
    nodes = [
        one
        for one in reader.head.nodes
        if (one.backend, one.job_id, one.het_group) == (place.backend, place.job_id, place.het_group)
    ]
    argv = [*_srun(reader, nodes, is_terminal=False), "--kill-on-bad-exit=0", "--wait=0", *find]
    environ = step_environment(outside_of_job(os.environ))
    try:
        done = subprocess.run(
            argv,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FIND_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError.of("exec-failed", f"srun cannot look for the process: {error}") from error
    found = done.stdout.split()
    if set(found) - {"-"}:
        return next(one for one in found if one != "-"), False
    if len(found) < len(nodes):
        lines = done.stderr.strip().splitlines() or ["it ended without a word"]
        raise LaunchError.of("exec-failed", f"srun cannot look for the process: {lines[-1]}")
    raise _no_such_rank(str(attempt), process)


def _place_of(reader: RunReader, wanted: RankId) -> tuple[int, int]:
    """Return the node and the pid of a rank. Raises: UsageError."""
    for entry in reversed(list(JournalFeed(reader.directory).entries((b'"rank_started"',)))):
        match entry.event:
            case MessageReceived(node=node, message=RankStarted(rank=rank, pid=pid)) if rank == wanted:
                return node, pid
    raise _no_such_rank(str(wanted.attempt), wanted.rank)


def _no_such_rank(attempt: str, rank: int) -> UsageError:
    return UsageError.of("no-such-rank", f"{attempt} has no process {rank}", hint="they count from 0")


def _srun(reader: RunReader, nodes: Sequence[PlannedNode], *, is_terminal: bool) -> list[str]:
    """Return the beginning of a command that runs on nodes of the run's job, once on each. Raises: LaunchError."""
    node = nodes[0]
    claim = read_claim(reader.directory / layout.CLAIM)
    job_id = node.job_id or ("" if claim is None else claim.job_id)
    if node.backend_type != "slurm" or not job_id:
        where = reader.facts.host if node.backend_type == "local" else node.name
        what = f"the task runs on {where}, and this is {socket.gethostname()}"
        raise LaunchError.of("not-here", what, hint=f"run sflow-ctl exec on {where}")
    options = [
        "--overlap",
        f"--nodes={len(nodes)}",
        f"--ntasks={len(nodes)}",
        "--ntasks-per-node=1",
        "--mem=0",
        "--cpu-bind=none",
        "--mpi=none",
        "--unbuffered",
    ]
    options += ["--export=ALL", "--job-name=sflow-exec", *(["--pty"] if is_terminal else [])]
    if node.het_group is not None:
        options.append(f"--het-group={node.het_group}")
    return ["srun", f"--jobid={job_id}", f"--nodelist={','.join(one.name for one in nodes)}", *options]


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
