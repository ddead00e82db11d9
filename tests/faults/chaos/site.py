"""Where a round of chaos runs: how to start a run there, find its processes, and break what is around them."""

from abc import ABC, abstractmethod
from pathlib import Path

LONGEST_DELAY_S, LONGEST_PAUSE_S = 2.0, 40.0


class Site(ABC):
    """A fleet that can be broken. Pids are those that this process may signal."""

    def __init__(self, run_directory: Path) -> None:
        self.run_directory = run_directory

    @abstractmethod
    def start(self, output: Path, *, is_resume: bool) -> None:
        """Start `sflow-ctl run`, whose output is in a file when it has ended."""

    @abstractmethod
    def status(self) -> int | None:
        """Return the exit status of `sflow-ctl run`, -9 if it was killed; None while it runs."""

    @abstractmethod
    def runs(self) -> list[int]:
        """Return the first process of `sflow-ctl run`, while it lives."""

    @abstractmethod
    def controllers(self) -> list[int]:
        """Return the process that has the claim on the run directory."""

    @abstractmethod
    def agents(self) -> list[int]:
        """Return the agents, in an order that lasts."""

    @abstractmethod
    def guardians(self) -> list[int]:
        """Return the parents of the agents, in the same order."""

    @abstractmethod
    def tasks(self) -> list[int]:
        """Return the processes of tasks."""

    @abstractmethod
    def left(self) -> list[str]:
        """Return what is left of the run, one sentence each: processes, shared memory."""

    @abstractmethod
    def kill_left(self) -> None:
        """Kill what is left of the run; return when it has ended."""

    @abstractmethod
    def cut(self, pick: float) -> None:
        """Let packets between controller and agents vanish, until `heal`."""

    @abstractmethod
    def reset(self, pick: float) -> None:
        """End and refuse connections between controller and agents, until `heal`."""

    @abstractmethod
    def lossy(self, pick: float) -> None:
        """Lose a part of the packets between controller and agents, until `heal`."""

    @abstractmethod
    def delay(self, pick: float) -> None:
        """Let packets between controller and agents take longer, by up to `LONGEST_DELAY_S`, until `heal`."""

    @abstractmethod
    def heal(self) -> None:
        """Make the network whole again."""

    @abstractmethod
    def fill_disk(self) -> None:
        """Leave no room for the run directory, until `free_disk`."""

    @abstractmethod
    def free_disk(self) -> None:
        """Make room again."""

    @abstractmethod
    def stall(self) -> None:
        """Let the file system of the run directory answer nothing, until `resume`."""

    @abstractmethod
    def resume(self) -> None:
        """Let it answer again."""

    @abstractmethod
    def jump_clock(self, pick: float) -> None:
        """Set a machine's time of day forwards or backwards, by days at most, until `correct_clocks`."""

    @abstractmethod
    def correct_clocks(self) -> None:
        """Set it right again."""

    @abstractmethod
    def pause(self, pick: float) -> None:
        """Let all clocks of a machine jump ahead, as after a pause of a virtual machine."""

    @abstractmethod
    def suspend(self) -> None:
        """Have Slurm suspend the job, until `unsuspend`."""

    @abstractmethod
    def unsuspend(self) -> None:
        """Have it resume the job."""

    @abstractmethod
    def power_off(self, pick: float) -> None:
        """Let a node vanish with all that runs there, until the next start."""

    @abstractmethod
    def end(self) -> None:
        """Remove everything that was made for the round."""
