"""In which order the processes of a tree are signalled."""

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from sflow_agent.descriptors import Descriptors
from sflow_agent.processes.cleanup import Cleanups
from sflow_agent.processes.cleanup_list import CleanupList
from sflow_agent.processes.tree import StepMarks
from sflow_agent.processes.tree_killer import TreeKiller
from tests.support import wait_until

CHILDREN = 20
TABLE = 128
"""The hash table of a set of so many numbers: it lists them by their remainder."""
SCRIPT = f"for i in $(seq {CHILDREN}); do sleep 7777 & done; wait"


def next_pid_near_the_end_of_a_table() -> None:
    """Let the next processes have numbers that a set lists in another order than that of their start."""
    while True:
        pid = os.posix_spawnp("true", ["true"], os.environ)
        os.waitpid(pid, 0)
        if TABLE - CHILDREN // 2 <= pid % TABLE < TABLE - 4:
            return


def test_clusters_f4_parents_are_signalled_before_their_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell in `wait` whose child was signalled first would end by itself, without running its trap."""
    signalled: list[int] = []
    next_pid_near_the_end_of_a_table()
    with subprocess.Popen(["bash", "-c", SCRIPT], start_new_session=True) as shell, select.epoll() as epoll:
        children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children")

        def listed() -> list[int]:
            return [int(pid) for pid in children.read_text().split()]

        wait_until(lambda: len(listed()) == CHILDREN, "all children", 10)
        started = [shell.pid, *sorted(listed())]
        rank = RankId(AttemptId("shell", 1), 0)
        send = signal.pidfd_send_signal

        def recorded(descriptor: int, number: int) -> None:
            if number == signal.SIGTERM:
                of_descriptor = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
                signalled.append(int(of_descriptor.rpartition("Pid:")[2].split()[0]))
            send(descriptor, number)

        monkeypatch.setattr(signal, "pidfd_send_signal", recorded)
        killer = TreeKiller(
            Descriptors(epoll),
            {rank: shell.pid},
            {shell.pid: rank},
            Cleanups(CleanupList()),
            {},
            lambda _rank: None,
            {},
            StepMarks("marker"),
        )
        killer.order(rank, signal.SIGTERM)
        killer.poll(0.0)
        assert signalled[0] == shell.pid
        assert sorted(signalled) == sorted(started)
        assert os.waitstatus_to_exitcode(os.waitpid(shell.pid, 0)[1]) == -signal.SIGTERM
