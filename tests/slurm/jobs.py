"""Slurm's commands as methods: submit, wait, look, cancel. They run on the head of a cluster."""

import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.slurm.settings import HEAD
from tests.support import PATIENCE_S, wait_until

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")


@dataclass(frozen=True)
class Job:
    """The output of `scontrol show job`."""

    number: int
    state: str
    reason: str
    node_list: str
    """Slurm's short form, `node[0-3]`; empty before it starts."""
    batch_host: str
    restarts: int
    exit_code: str
    """`status:signal`"""


class Jobs(ABC):
    """The base of a cluster. Options are long options of the command: `no_kill=True, gres="gpu:2"`."""

    @property
    @abstractmethod
    def shared(self) -> Path:
        """Jobs start there, and write their output there."""

    @abstractmethod
    def run_in_node(
        self,
        node: str,
        argv: Sequence[str | Path],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        within_s: float = PATIENCE_S,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command there to its end."""

    def slurm(self, *argv: str, stdin: str = "") -> str:
        """Standard output of one of Slurm's commands, which must succeed."""
        done = self.run_in_node(HEAD, argv, stdin=stdin)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def sbatch(self, script: str, nodes: int = 1, **options: str | int | bool) -> int:
        """Submits a script, given as text, and returns the job's id."""
        text = script if script.startswith("#!") else f"#!/bin/bash\n{script}"
        options = {"output": f"{self.shared}/job-%j.out", "open_mode": "append", **options}
        return int(self.slurm("sbatch", "--parsable", *_options(nodes, options), stdin=text))

    def srun(
        self, argv: Sequence[str], nodes: int = 1, **options: str | int | bool
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a separate job."""
        return self.run_in_node(HEAD, ["srun", *_options(nodes, options), *argv])

    def salloc(
        self, argv: Sequence[str], nodes: int = 1, **options: str | int | bool
    ) -> subprocess.CompletedProcess[str]:
        """The command runs on the head, with an allocation."""
        return self.run_in_node(HEAD, ["salloc", *_options(nodes, options), *argv])

    def scancel(self, *words: str | int) -> None:
        """Of a job, a step, or with scancel's own options."""
        self.slurm("scancel", *map(str, words))

    def scontrol(self, *words: str) -> str:
        """Return its output."""
        return self.slurm("scontrol", *words)

    def job(self, number: int) -> Job:
        """As it is now; ended jobs are remembered for an hour."""
        fields = dict(re.findall(r"(\w+)=(\S*)", self.scontrol("show", "job", "--oneliner", str(number))))
        node_list = fields.get("NodeList", "")
        return Job(
            number=number,
            state=fields["JobState"],
            reason=fields["Reason"],
            node_list="" if node_list == "(null)" else node_list,
            batch_host=fields.get("BatchHost", ""),
            restarts=int(fields["Restarts"]),
            exit_code=fields["ExitCode"],
        )

    def wait_job(self, number: int, states: str | Sequence[str] = ENDED, within_s: float = PATIENCE_S) -> Job:
        """The job once it is in one of the states. Fails with the job as it was last seen."""
        wanted = [states] if isinstance(states, str) else states
        job = self.job(number)

        def arrived() -> Job | None:
            nonlocal job
            job = self.job(number)
            return job if job.state in wanted else None

        try:
            return wait_until(arrived, f"job {number} {' or '.join(wanted)}", within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; {job}; it printed:\n{self.output(number)}") from None

    def output(self, number: int) -> str:
        """Return the output of a job so far."""
        try:
            return (self.shared / f"job-{number}.out").read_text()
        except FileNotFoundError:
            return ""


def _options(nodes: int, options: Mapping[str, str | int | bool]) -> list[str]:
    words = [f"--nodes={nodes}"]
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            words.append(option)
        elif value is not False:
            words.append(f"{option}={value}")
    return words
