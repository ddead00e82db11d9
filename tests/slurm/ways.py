"""The ways to run a file on Slurm: in a job, with an allocation of its own, and by `batch`. Shared by tests of files of sflow."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from msgspec import Struct

from sflow_ctl.runtime.record.plan_file import decode_plan
from tests.slurm.machine import ENVIRONMENT
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, ours_left
from tests.slurm.settings import HEAD
from tests.support import wait_until

WAYS = ("in a job", "with an allocation", "by batch")


class Done(Struct, frozen=True):
    """A run that has ended."""

    status: int
    printed: str
    directory: Path
    job: str
    """Slurm's facts about its job, in one line; empty where it is gone."""

    def log(self, task: str) -> list[str]:
        """Return the lines of a task, those of several processes sorted."""
        return sorted((self.directory / task / f"{task}.log").read_text().splitlines())

    def summary(self) -> dict[str, Any]:
        """Return the summary of the run."""
        loaded: dict[str, Any] = json.loads((self.directory / ".sflow" / "summary.json").read_text())
        return loaded

    def nodes(self) -> dict[str, list[str]]:
        """Return the nodes of each task."""
        plan = decode_plan((self.directory / ".sflow" / "plan.json").read_bytes())
        return {task.name: [plan.nodes[node].name for node in task.placement.nodes] for task in plan.tasks}


def run(
    cluster: Cluster,
    way: str,
    path: Path,
    *options: str,
    nodes: int = 1,
    programs: Path | None = None,
    **job: str | int,
) -> Done:
    """Run a file to its end. `nodes` and `job` are of the job around it, where the way has one.

    `programs` is a directory with programs that win over those of the machine.
    """
    env = {} if programs is None else {"PATH": f"{programs}:{ENVIRONMENT['PATH']}"}
    out = cluster.shared / "out"
    shutil.rmtree(out, ignore_errors=True)
    places = f"--output-dir {out} --workspace-dir {cluster.shared}"
    words = " ".join((str(path), *options))
    if way == "with an allocation":
        done = cluster.run_in_node(HEAD, f"{SFLOW_CTL} run {words} {places} -v".split(), env=env, within_s=90)
        found = re.search(r"job (\d+): waiting for its nodes", done.stderr)
        number = int(found[1]) if found else None
        printed, status = done.stdout + done.stderr, done.returncode
    else:
        if way == "by batch":
            command = f"{SFLOW_CTL} batch {words} {places} -o {cluster.shared}/job.sh --submit"
            done = cluster.run_in_node(HEAD, command.split(), env=env)
            found = re.search(r"Submitted job (\d+)", done.stdout)
            assert found is not None, done.stdout + done.stderr
            number = int(found[1])
        else:
            path_line = f"export PATH={env['PATH']}\n" if env else ""
            number = cluster.sbatch(f"{path_line}exec {SFLOW_CTL} run {words} {places}", nodes=nodes, **job)
        ended = cluster.wait_job(number, within_s=90)
        printed, status = cluster.output(number), int(ended.exit_code.split(":")[0])
        for log in out.glob(f"{number}-sflow-submit.*"):
            printed += log.read_text()
    said = "" if number is None else cluster.scontrol("show", "job", "--oneliner", str(number))
    directories = sorted(one.parent for one in out.glob("*/.sflow"))
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)
    return Done(status, printed, directories[-1] if directories else out, said)
