"""A site's and a user's settings reach Slurm: salloc, sbatch, the one srun, and the environment of all."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.counted_srun import CountedSrun
from tests.slurm.rig import Cluster
from tests.slurm.settings import HEAD

pytestmark = pytest.mark.slurm

WORKFLOW = """
version: "0.1"
backends: {pool: {type: slurm, time: "00:10:00", nodes: 2, gpus_per_node: 2}}
workflow:
  name: w
  tasks: [{name: t, script: ['echo "$FROM_PREAMBLE on $SLURMD_NODENAME"']}]
"""


def sflow_ctl(cluster: Cluster, *words: str | Path, site: str) -> "subprocess.CompletedProcess[str]":
    """On the head, which has a site's file."""
    (cluster.shared / "site.yaml").write_text(site)
    (cluster.shared / "w.yaml").write_text(WORKFLOW)
    command = [sys.executable, "-m", "sflow_ctl", *map(str, words)]
    return cluster.run_in_node(
        HEAD, command, env={"SFLOW_SITE_FILE": str(cluster.shared / "site.yaml")}, within_s=120
    )


def fields(cluster: Cluster, number: int) -> dict[str, str]:
    """Return Slurm's fields of a job."""
    return dict(re.findall(r"(\w+)=(\S*)", cluster.scontrol("show", "job", "--oneliner", str(number))))


def site(cluster: Cluster, counted: CountedSrun) -> str:
    """Everything but what belongs to a workflow. The `srun` that counts is there by the preamble only."""
    return f"""
partition: requeued
account: physics
launch_flags: ["--comment=of-the-site"]
interface: eth0
preamble:
  - echo ran >> {cluster.shared}/preambles
  - |
    export FROM_PREAMBLE=loaded
    export PATH={counted.directory}:$PATH
"""


@pytest.fixture
def counted(cluster: Cluster, tmp_path: Path) -> CountedSrun:
    """Counts the srun calls of one test."""
    (cluster.shared / "preambles").unlink(missing_ok=True)
    return CountedSrun(cluster.shared / tmp_path.name)


def check_run(cluster: Cluster, counted: CountedSrun, number: int, run: Path) -> None:
    """Check that the run had the site's settings, each once."""
    job = fields(cluster, number)
    assert (job["Partition"], job["Account"]) == ("requeued", "physics")
    (srun,) = counted.calls()
    assert "--comment=of-the-site" in srun
    assert "--overlap" in srun
    lines = sorted((run / "t" / "t.log").read_text().splitlines())
    assert [line.partition(" on ")[0] for line in lines] == ["0: loaded", "1: loaded"]
    assert (cluster.shared / "preambles").read_text() == "ran\n"


def test_a_run_outside_a_job(cluster: Cluster, counted: CountedSrun) -> None:
    out = cluster.shared / "of-a-run"
    done = sflow_ctl(
        cluster, "run", "w.yaml", "--output-dir", out, "--run-id", "r", "-e", "--gres=gpu:2",
        site=site(cluster, counted),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    match = re.search(r"job (\d+): waiting", done.stderr)
    assert match is not None
    check_run(cluster, counted, int(match[1]), out / "r")


def test_a_batch_job(cluster: Cluster, counted: CountedSrun) -> None:
    out = cluster.shared / "of-a-job"
    done = sflow_ctl(
        cluster, "batch", "w.yaml", "-o", "job.sh", "--output-dir", out, "-G", "2", "--submit",
        site=site(cluster, counted),
    )  # fmt: skip
    match = re.search(r"Submitted job (\d+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    number = int(match[1])
    assert cluster.wait_job(number).state == "COMPLETED", (out / f"{number}-sflow-submit.err").read_text()
    (run,) = out.glob(f"{number}-w-*")
    check_run(cluster, counted, number, run)


def test_the_command_line_wins_over_the_site(cluster: Cluster, counted: CountedSrun) -> None:
    done = sflow_ctl(
        cluster, "batch", "w.yaml", "-o", "job.sh", "-p", "cancelled", "-A", "chemistry", "--submit", "-e", "--hold",
        site=site(cluster, counted),
    )  # fmt: skip
    match = re.search(r"Submitted job (\d+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    job = fields(cluster, int(match[1]))
    assert (job["Partition"], job["Account"]) == ("cancelled", "chemistry")
    cluster.scancel(match[1])


def test_a_job_whose_partition_only_the_command_line_gives(cluster: Cluster) -> None:
    out = cluster.shared / "of-a-said-partition"
    done = sflow_ctl(
        cluster, "batch", "w.yaml", "-o", "job.sh", "--output-dir", out, "-G", "2", "-p", "main", "-A", "a", "--submit",
        site="",
    )  # fmt: skip
    match = re.search(r"Submitted job (\d+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    log = out / f"{match[1]}-sflow-submit.err"
    assert cluster.wait_job(int(match[1])).state == "COMPLETED", log.read_text()


def test_a_failing_preamble_is_the_clear_end_of_a_job(cluster: Cluster) -> None:
    out = cluster.shared / "of-a-failure"
    done = sflow_ctl(
        cluster, "batch", "w.yaml", "-o", "job.sh", "--output-dir", out, "--submit",
        site="partition: main\naccount: a\npreamble:\n  - 'true'\n  - module load nothing\n",
    )  # fmt: skip
    match = re.search(r"Submitted job (\d+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    job = cluster.wait_job(int(match[1]))
    assert (job.state, job.exit_code) == ("FAILED", "3:0")
    said = (out / f"{match[1]}-sflow-submit.err").read_text()
    assert "error[preamble-failed]: the preamble ended with exit status 127: module load nothing" in said
    assert f"where: {cluster.shared}/site.yaml:5:5  preamble[1]" in said
    assert not list(out.glob(f"{match[1]}-w-*"))


def test_agents_call_the_interface_of_the_site(cluster: Cluster) -> None:
    settings = "partition: main\naccount: a\njoin_within: 3\n"
    words = ("run", "w.yaml", "--output-dir", cluster.shared / "of-interfaces", "-e", "--gres=gpu:2")
    done = sflow_ctl(cluster, *words, site=f"{settings}interface: lo\n")
    assert done.returncode == 3
    assert "2 of 2 agents have not reported within 3 s" in done.stderr  # nobody else is on this loopback
    done = sflow_ctl(
        cluster, *words, "--interface", "eth0", "--join-within", "1m", site=f"{settings}interface: lo\n"
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_flag_that_srun_refuses_is_quoted(cluster: Cluster) -> None:
    settings = "partition: main\naccount: a\nlaunch_flags: ['--frobnicate=yes']\n"
    done = sflow_ctl(cluster, "run", "w.yaml", "--output-dir", cluster.shared / "of-a-flag", site=settings)
    assert done.returncode == 3
    assert "unrecognized option '--frobnicate=yes'" in done.stderr, done.stderr


ASKING = """version: "0.1"
backends:
  pool: {type: slurm, account: physics, partition: main, nodes: 1, gpus_per_node: 1, time: 5m, mem: 200M, constraint: "big&CPUS",
         cpus_per_task: 2, exclude: EXCLUDED}
operators: {step: {type: srun, ntasks: 1, mpi: none, label: false}}
environments:
  e: {source: env.sh, env: {B: "it's b"}, before: ["export C=$A-$B-$SLURM_STEP_ID"]}
workflow:
  name: w
  tasks:
    - {name: t, operator: step, environment: e, script: ['echo "$C"; scontrol show job --oneliner $SLURM_JOB_ID']}
    - {name: bad, operator: step, depends_on: [t], environment: {source: gone.sh}, retries: 2, script: [date]}
"""


def test_salloc_gets_what_a_backend_asks_for_and_steps_their_environments(cluster: Cluster) -> None:
    first, *others = cluster.settings.node_names
    for node in cluster.settings.node_names:
        features = f"{'big,' if node != others[-1] else ''}CPUS"
        cluster.scontrol(
            "update", f"nodename={node}", f"availablefeatures={features}", f"activefeatures={features}"
        )
    text = ASKING.replace("EXCLUDED", first)
    (cluster.shared / "asking.yaml").write_text(text)
    (cluster.shared / "env.sh").write_text("export A=a\n")
    out = cluster.shared / "of-asking"
    done = sflow_ctl(cluster, "run", "asking.yaml", "--output-dir", out, "--run-id", "r", site="{}")
    assert done.returncode == 1, done.stdout + done.stderr
    words, shown = [line.partition(": ")[2] or line for line in (out / "r/t/t.log").read_text().splitlines()][
        -2:
    ]
    assert words.startswith("a-it's b-"), words
    assert words.removeprefix("a-it's b-").isdecimal(), "it was set up in the step"
    for part in ("MinMemoryNode=200M", "CPUs/Task=2", f"ExcNodeList={first}", "Features=big&CPUS"):
        assert part in shown, shown
    tasks = {one["name"]: one for one in json.loads((out / "r/.sflow/summary.json").read_text())["tasks"]}
    assert (tasks["bad"]["reason_word"], tasks["bad"]["attempts"]) == ("bootstrap", 1), tasks["bad"]
    (cluster.shared / "asking.yaml").write_text(text.replace("big&CPUS", "none"))
    refused = sflow_ctl(cluster, "run", "asking.yaml", "--output-dir", out, "--run-id", "s", site="{}")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "Invalid feature specification" in refused.stderr
