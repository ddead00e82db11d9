"""Ends a run whose loop stands still, when a signal stops it: the loop cannot, as long as its file system does not answer.

`own_standstill.py` calls it from the thread that speaks for the loop. Agents stop the run's tasks, its record stays as it is, and
the supervisor ends the process, or leaves without it if the kernel keeps it.
"""

import os
import shlex
import signal
import time
from collections.abc import Callable
from typing import NoReturn

from protocol.machine.loop_watch import Standstill
from protocol.machine.procfs import is_living
from sflow_ctl.runtime.run.signals import SignalInbox, meant_by, stop_name, stop_status
from sflow_ctl.runtime.supervision.lifeline import lifeline
from sflow_ctl.runtime.supervision.supervisor import STOPS_A_RUN

WAITS_S = 10.0
"""How long the first signal waits for the loop to move again."""
SURE_AFTER_S = 5.0
"""A loop that has stood still for so long is not waited for once a second signal has come."""
AGENTS_END_WITHIN_S = 5.0
"""For agents that stop their tasks in order."""
REFUSED_WITHIN_S = 0.5
"""For what agents are sent to leave, where their tasks are not waited for."""
LOOK_S = 0.05
REFUSAL = "the run is stopped while its controller waits for a file system"


class BlockedEnd:
    """The end of a run by a signal that its loop does not see. Used by one thread, which is not the loop's."""

    def __init__(
        self,
        directory: str,
        inbox: SignalInbox,
        refuse_agents: Callable[[str], object],
        agents: Callable[[], list[int]],
        say: Callable[[str], object],
    ) -> None:
        """`agents` are the pids of processes that end with their tasks."""
        self._directory = directory
        self._inbox = inbox
        self._refuse_agents, self._agents = refuse_agents, agents
        self._say = say
        self._first_at: float | None = None
        self._first = 0

    def look(self, now: float, standstill: Standstill, what: str) -> None:
        """Take in signals; end the run once it must not wait any longer. `what` says what stands still."""
        came = self._inbox.collect()
        if not came:
            return
        if self._first_at is None:
            self._first_at, self._first = now, came[0]
        waited_s = min(now - self._first_at, standstill.seconds)
        is_sure = len(came) > 1 and standstill.seconds >= SURE_AFTER_S
        if waited_s >= WAITS_S or is_sure:
            self._end(len(came), now, standstill, what)
        if self._first_at == now:
            self._say(
                f"warning: {self._name} received, but {what}. The run ends when that answers, without it in "
                f"{WAITS_S:.0f} s, or at another signal"
            )

    def look_after_loop(self, now: float, standstill: Standstill, what: str) -> None:
        """End the run if a signal waits for a thread that closes it, and does not get on with that."""
        waiting = signal.sigpending() & set(STOPS_A_RUN)
        if not waiting:
            self._first_at = None
            return
        if self._first_at is None:
            self._first_at, self._first = now, meant_by(min(waiting))
        if min(now - self._first_at, standstill.seconds) >= WAITS_S:
            self._end(2, now, standstill, what)

    @property
    def _name(self) -> str:
        return stop_name(self._first)

    def _end(self, count: int, now: float, standstill: Standstill, what: str) -> NoReturn:
        """Have the agents stop all tasks, then end the process."""
        since = time.strftime("%H:%M:%S", time.localtime(time.time_ns() / 1e9 - standstill.seconds))
        self._refuse_agents(REFUSAL)
        deadline = now + (AGENTS_END_WITHIN_S if count == 1 else REFUSED_WITHIN_S)
        while (left := [pid for pid in self._agents() if is_living(pid)]) and time.monotonic() < deadline:
            if len(self._inbox.collect()) > count:
                break  # another signal
            time.sleep(LOOK_S)
        ends = f" Agents that still end: {', '.join(map(str, left))}." if left else ""
        text = (
            f"{what}. The run is ended by {self._name}, its tasks are stopped.{ends} Not written: its record since {since}, "
            f"its summary. Once that answers, `sflow-ctl run --resume {shlex.quote(str(self._directory))}` continues it"
        )
        status = int(stop_status(self._first))
        line = lifeline()
        if line is None or not line.is_supervised:
            os.write(2, f"sflow-ctl: {text}\n".encode())
            os._exit(status)
        line.end_blocked(status, text)
        os._exit(status)
