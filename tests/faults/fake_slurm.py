"""An imitated Slurm job: `srun`, `scontrol` and `squeue` to put first on PATH, whose failures can be chosen.

For behaviour that a real Slurm (`tests/slurm`) shows on other sites only, or once in a thousand starts.
"""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SRUN = Path(__file__).with_name("fake_srun.py")
WORKFLOW = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: NODES, gpus_per_node: 1}}
operators: {one: {type: srun, ntasks: 1}}
workflow:
  name: w
  tasks:
"""


class FakeSlurm:
    """Its commands and the environment of its job, below one directory."""

    def __init__(self, directory: Path, nodes: Sequence[str] = ("node0", "node1"), **behaviour: Any) -> None:
        """Install the stand-ins, which do what `behaviour` says.

        `says` lines on standard error, `awaits` a file, `says_then` more; then `hangs`, or `exits` with a status; `skips`
        nodes; `refuses` options with its words; `before`: words before a task's command; `environment`: more variables of
        tasks.
        """
        self.directory = directory / "slurm"
        self.directory.mkdir()
        self.nodes = tuple(nodes)
        self.spares = 0
        """How many of the nodes the file holds back."""
        usual = {"says": (), "awaits": "", "says_then": (), "hangs": False, "exits": None}
        usual |= {"skips": (), "refuses": {}, "before": (), "environment": {}}
        chosen = {"nodes": self.nodes, **usual, **behaviour}
        (self.directory / "behaviour.json").write_text(json.dumps(chosen))
        words = [sys.executable, "-I", "-S", str(SRUN), str(self.directory / "behaviour.json")]
        self.command("srun", f'echo "$@" >> {self.directory}/calls\nexec {shlex.join(words)} "$@"')
        self.command("scontrol", "echo slurm 22.05.8")
        self.command("squeue", "echo 10:00")

    def command(self, name: str, script: str) -> None:
        """Make one of Slurm's commands from a shell script."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def grants(self, jobs: Mapping[str, Sequence[str]]) -> None:
        """Let salloc grant a job for each of these partitions, with these nodes; the first is number 1.

        Requests and cancellations are in `requests`. Partitions of a file `refuse` there get nothing; `hold` delays all.
        """
        folder = self.directory
        (folder / "jobs").mkdir()
        for number, (partition, nodes) in enumerate(jobs.items(), 1):
            (folder / "jobs" / partition).write_text(f"{number} {','.join(nodes)}")
        self.command(
            "salloc",
            f"""echo "salloc $* [$SLURM_JOB_ID]" >> {folder}/requests
while [ $# -gt 0 ]; do [ "$1" = --partition ] && partition=$2; shift; done
read number nodes < {folder}/jobs/$partition
echo "salloc: Pending job allocation $number" >&2
while [ -e {folder}/hold ]; do sleep 0.02; done
[ ! -e {folder}/refuse ] || ! grep -qx $partition {folder}/refuse || {{ echo "salloc: error: no" >&2; exit 1; }}
echo "salloc: Granted job allocation $number" >&2""",
        )
        self.command("scancel", f'echo "scancel $*" >> {folder}/requests')
        rows = "".join(
            f'*--jobs={number}\\ *"%i|%T|%N"*) echo "{number}|RUNNING|{",".join(nodes)}";;\n'
            for number, nodes in enumerate(jobs.values(), 1)
        )
        self.command(
            "squeue", f'echo "squeue $*" >> {folder}/requests\ncase "$*" in\n{rows}*) echo 10:00;;\nesac'
        )

    def requests(self) -> list[str]:
        """Return the calls of salloc and scancel so far."""
        path = self.directory / "requests"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if not line.startswith("squeue")]

    def without(self, *names: str) -> None:
        """These commands are not there."""
        for name in names:
            (self.directory / name).unlink()

    def calls(self) -> list[list[str]]:
        """The arguments of each srun."""
        return [line.split() for line in (self.directory / "calls").read_text().splitlines()]

    def login_environment(self) -> dict[str, str]:
        """The environment outside of jobs."""
        return {"PATH": f"{self.directory}:{Path(sys.executable).parent}:/usr/bin:/bin"}

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the job's batch script."""
        return {
            **self.login_environment(),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": ",".join(self.nodes),
            "SLURM_JOB_NUM_NODES": str(len(self.nodes)),
            **(extra or {}),
        }

    def workflow(self, tasks: str) -> str:
        """A file's text, for a job with these nodes."""
        spares = f", spares: {self.spares}" if self.spares else ""
        return WORKFLOW.replace("NODES", f"{len(self.nodes)}{spares}") + tasks
