"""The guardian: the agent's parent, which ends every task when the agent is killed.

Imports as little as possible.

Both are child subreapers, so all processes of the agent's tasks become children of the guardian when the
agent dies. The agent, in turn, watches the guardian. A terminal signals neither: they have a session of their
own.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from sflow_agent.logs.output_handover import HeldOutputs, OutputSender, make_pair
from sflow_agent.processes.cleanup_list import CleanupList
from sflow_agent.processes.procfs import descendants, is_living, name_of, step_processes
from sflow_agent.processes.syscalls import become_subreaper, hide_memory, wipe_variable

CONFIG_VARIABLE = "SFLOW_AGENT_CONFIG"
"""The variable with a job step's configuration: all its agents have the same standard input."""

CLEANUPS_WITHIN_S = 20.0
GRACE_S = 2.0
VERIFY_S = 5.0


def guard() -> int:
    """Fork the agent and watch it; return the process's exit status, in both processes."""
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    _keep_descriptors_from_tasks()
    hide_memory()
    encoded_config = os.environ.get(CONFIG_VARIABLE)
    if encoded_config is not None:
        wipe_variable(CONFIG_VARIABLE)
        del os.environ[CONFIG_VARIABLE]
    become_subreaper()
    me = os.getpid()
    cleanups = CleanupList()
    agents_end, own_end = make_pair()
    agent = os.fork()
    if agent == 0:
        from sflow_agent.agent import run_agent

        own_end.close()
        return run_agent(me, encoded_config, cleanups, OutputSender(agents_end))
    agents_end.close()
    del encoded_config
    # The agent reads the configuration; it must see the end of stdin if it is not needed.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    signal.signal(signal.SIGTERM, lambda *_: _signal(agent, signal.SIGTERM))
    outputs = HeldOutputs(own_end)
    outputs.receive_until_closed()
    status = _wait(agent)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the pid may be reused now
    left = _end_everything(outputs.drain, cleanups.run_mark()) + _clean_up(cleanups)
    outputs.drain(0)
    for survivor in left:
        sys.stderr.write(f"sflow-agent: could not end {survivor}\n")
    if status < 0:
        sys.stderr.write(
            f"sflow-agent: the agent was killed by {signal.Signals(-status).name}; its tasks were ended\n"
        )
        return 128 - status
    return status


def _keep_descriptors_from_tasks() -> None:
    """Close descriptors that a launcher left open (Slurm's PMI socket, a pipe) in tasks."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def _wait(agent: int) -> int:
    while True:
        with contextlib.suppress(InterruptedError):
            _, status = os.waitpid(agent, 0)
            return os.waitstatus_to_exitcode(status)


def _end_everything(pause: Callable[[int], object], run_mark: int | None = None) -> list[str]:
    """Send SIGTERM, wait a short grace, send SIGKILL, verify; return "pid name" of the survivors."""
    started = time.monotonic()
    signalled: set[int] = set()
    while left := _living(run_mark):
        now = time.monotonic()
        if now > started + GRACE_S + VERIFY_S:
            return [name_of(pid) for pid in left]
        number = signal.SIGTERM if now < started + GRACE_S else signal.SIGKILL
        for pid in left:
            if number == signal.SIGKILL or pid not in signalled:
                _signal(pid, number)
                _signal(pid, signal.SIGCONT)
                signalled.add(pid)
        pause(10)
    return []


def _clean_up(cleanups: CleanupList) -> list[str]:
    """Run the cleanups that the agent did not reach, all at once; return the keys of those that failed."""
    running: dict[int, str] = {}
    failed: list[str] = []
    null = os.open(os.devnull, os.O_RDWR)
    files = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
    for key, (argv, environment) in cleanups.pending().items():
        try:
            running[os.posix_spawnp(argv[0], argv, environment, file_actions=files)] = key
        except OSError:
            failed.append(key)
    deadline = time.monotonic() + CLEANUPS_WITHIN_S
    poller = select.poll()
    while running and time.monotonic() < deadline:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            poller.poll(10)
        elif (key := running.pop(pid, "")) and status != 0:
            failed.append(key)
    _end_everything(select.poll().poll)
    return [f"the container of {key}" for key in (*failed, *running.values())]


def _living(run_mark: int | None) -> list[int]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    below = [pid for pid in descendants(os.getpid()) if is_living(pid)]
    return below if run_mark is None else [*below, *step_processes(run_mark)]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
