"""Follows the end of a Slurm job's time, which people extend and shorten while it runs, and learns how Slurm ends jobs.

Asks Slurm in a thread of its own: an answer may take long. A source of the controller's loop; what follows of an
answer is decided in `core/job_time.py`.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Sequence

from protocol.machine.loop_signals import QuietThread
from sflow_ctl.core.actions.job_time import is_same_end
from sflow_ctl.core.events import JobEndKnown
from sflow_ctl.runtime.slurm.allocation import (
    KILL_WAIT_WITHIN_S,
    Allocation,
    ask_job_end,
    ask_kill_wait_s,
    own_name,
)

ASK_EVERY_S = 60.0
"""One question about one job. A job that is shortened to less than this is ended by Slurm's own SIGTERM."""
SETTLED_S = 2.0
"""Most short runs end before this and ask nothing more."""


class JobClock:
    """When the job's time is over, by Slurm's newest answer."""

    def __init__(
        self,
        name: str,
        gone_at: float | None,
        ask: Callable[[str], float | None] = ask_job_end,
        ask_kill_wait: Callable[[float | None], float | None] = ask_kill_wait_s,
    ) -> None:
        """`name` is the job as Slurm is asked for it, `gone_at` the end that is known, None without one."""
        self._kill_wait_s: float | None = None
        """Between Slurm's SIGTERM and SIGKILL; None while Slurm has not said it."""
        self._name = name
        self._gone_at = gone_at
        self._ask = ask
        self._ask_kill_wait = ask_kill_wait
        self._must_ask = threading.Event()
        self._is_closed = False
        self._is_answer_wanted = False
        self._news: list[JobEndKnown] = []
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # A daemon: an unanswered question must not hold up the end of the run.
        self._thread = QuietThread(self._run, "job-clock")

    @property
    def fileno(self) -> int:
        """Readable when there is news."""
        return self._wakeup

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def ask_now(self) -> None:
        """Ask at once, and report the answer even if it is the old one."""
        self._is_answer_wanted = True
        self._must_ask.set()

    def kill_wait_now_s(self) -> float | None:
        """Return the seconds between Slurm's SIGTERM and SIGKILL; ask if that is not known yet. None without an answer."""
        return self._kill_wait_s if self._kill_wait_s is not None else self._ask_kill_wait(KILL_WAIT_WITHIN_S)

    def news(self) -> list[JobEndKnown]:
        """Return what Slurm has said since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
        news = []
        while self._news:
            news.append(self._news.pop(0))
        return news

    def close(self) -> None:
        """Ask no more. The descriptor stays open until the process ends if a question is still unanswered."""
        self._is_closed = True
        self._must_ask.set()
        self._thread.join(1.0)
        if not self._thread.is_alive():
            os.close(self._wakeup)

    def _run(self) -> None:
        # Asked for before it is needed: when Slurm ends many jobs at once, its answer comes too late.
        if not self._must_ask.wait(SETTLED_S):
            self._kill_wait_s = self._ask_kill_wait(None)
        while True:
            self._must_ask.wait(ASK_EVERY_S)
            self._must_ask.clear()
            if self._is_closed:
                return
            if self._kill_wait_s is None and not self._is_answer_wanted:
                self._kill_wait_s = self._ask_kill_wait(None)
            is_wanted, self._is_answer_wanted = self._is_answer_wanted, False
            gone_at = self._ask(self._name)
            if gone_at is None or self._is_closed:
                continue
            limited = None if gone_at == math.inf else gone_at
            if is_wanted or not is_same_end(limited, self._gone_at):
                self._gone_at = limited
                self._news.append(JobEndKnown(gone_at=limited))
                os.eventfd_write(self._wakeup, 1)


def clock_of(jobs: Sequence[Allocation], ask: Callable[[str], float | None] = ask_job_end) -> JobClock:
    """Return a clock of the end that comes first."""
    names = ",".join(own_name(job.job_id, os.environ) for job in jobs)
    return JobClock(names, min((one for job in jobs if (one := job.ends_at) is not None), default=None), ask)


def time_left_text(gone_at: float | None) -> str:
    """Return how much time a job has left, for people."""
    if gone_at is None:
        return "the Slurm job has no time limit any more"
    seconds = max(0, round(gone_at - time.monotonic()))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    left = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
    return f"the Slurm job's time limit was changed: {left} left"
