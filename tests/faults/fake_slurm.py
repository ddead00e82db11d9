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

    def without(self, *names: str) -> None:
        """These commands are not there."""
        for name in names:
            (self.directory / name).unlink()

    def calls(self) -> list[list[str]]:
        """The arguments of each srun."""
        return [line.split() for line in (self.directory / "calls").read_text().splitlines()]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the job's batch script."""
        path = f"{self.directory}:{Path(sys.executable).parent}:/usr/bin:/bin"
        return {
            "PATH": path,
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": ",".join(self.nodes),
            "SLURM_JOB_NUM_NODES": str(len(self.nodes)),
            **(extra or {}),
        }

    def workflow(self, tasks: str) -> str:
        """A file's text, for a job with these nodes."""
        return WORKFLOW.replace("NODES", str(len(self.nodes))) + tasks
