"""Scripts of `batch` in a real Slurm: submitted, run on the job's nodes, and ended with the run's status."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.errors import FleetError
from sflow_ctl.runtime.record.reader import RunReader
from tests.slurm.rig import Cluster
from tests.slurm.settings import HEAD
from tests.support import wait_until

pytestmark = pytest.mark.slurm

WORKFLOW = """
version: "0.1"
variables: {NODES: 2, STATUS: 0, SAY: hello}
backends:
  pool: {type: slurm, account: lab, partition: main, nodes: "${{ NODES }}", gpus_per_node: 2, time: 5m}
workflow:
  name: demo
  tasks:
    - {name: each, replicas: {count: 2}, resources: {gpus: {count: 2}}, script: ['echo "on $SLURMD_NODENAME"']}
    - {name: last, depends_on: [each], resources: {nodes: {count: 1}}, script: ['printf "said <%s>" "$SAY"', "exit $STATUS"]}
"""
NASTY = """a "b" \\c #d'e %j"""


def batch(cluster: Cluster, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`sflow-ctl batch` on the head, in the shared directory."""
    (cluster.shared / "wf.yaml").write_text(WORKFLOW)
    places = ("--workspace-dir", cluster.shared, "--output-dir", cluster.shared / "out")
    command = [sys.executable, "-m", "sflow_ctl", "batch", *words, *places]
    return cluster.run_in_node(HEAD, list(map(str, command)))


def submitted(done: subprocess.CompletedProcess[str]) -> int:
    """The job's id."""
    match = re.search(r"Submitted job (\d+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    return int(match[1])


def test_a_job_completes_as_its_run_does(cluster: Cluster) -> None:
    words = (
        cluster.shared / "wf.yaml",
        "-o",
        cluster.shared / "job.sh",
        "--submit",
        "-G",
        "2",
        "-s",
        f"SAY={NASTY}",
    )
    number = submitted(batch(cluster, *words))
    job = cluster.wait_job(number)
    log = cluster.shared / "out" / f"{number}-sflow-submit.out"
    assert job.state == "COMPLETED", log.read_text()
    assert "✓ Workflow completed" in log.read_text()
    (run,) = (cluster.shared / "out").glob(f"{number}-demo-*")
    where = {(run / f"each_{i}" / f"each_{i}.log").read_text().strip() for i in range(2)}
    assert len(where) == 2  # one on each node: both GPUs are taken
    assert (run / "last" / "last.log").read_text() == f"said <{NASTY}>"


def test_a_job_fails_with_its_run_and_its_dependants_do_not_start(cluster: Cluster) -> None:
    words = (
        cluster.shared / "wf.yaml",
        "-o",
        cluster.shared / "job.sh",
        "--submit",
        "-G",
        "2",
        "-s",
        "STATUS=7",
    )
    first = submitted(batch(cluster, *words))
    after = submitted(batch(cluster, *words, "--after-ok", str(first)))
    job = cluster.wait_job(first)
    assert (job.state, job.exit_code) == ("FAILED", "1:0")
    assert cluster.wait_job(after).state == "CANCELLED"  # it could never start


LONG = """
version: "0.1"
backends:
  pool: {type: slurm, account: lab, partition: main, nodes: 1, gpus_per_node: 0, time: 5m}
workflow:
  name: long
  tasks:
    - {name: first, script: ["echo first"]}
    - {name: second, depends_on: [first], script: ["[ -e $SFLOW_WORKSPACE_DIR/may-end ] || sleep 600"]}
"""


def test_a_chain_of_jobs_continues_a_run_that_was_cut_off_and_ends_with_it(cluster: Cluster) -> None:
    words = (cluster.shared / "long.yaml", "-o", cluster.shared / "long.sh", "--submit", "--chain", "4")
    (cluster.shared / "long.yaml").write_text(LONG)
    (cluster.shared / "may-end").unlink(missing_ok=True)
    first = submitted(batch(cluster, *words))
    run = cluster.shared / "out" / f"{first}-long"

    def state_of(task: str) -> str:
        try:
            reader = RunReader(run)
        except FleetError:
            return "none"
        reader.refresh()
        return reader.state.tasks[task].state.value

    wait_until(lambda: state_of("second") == "running", "the second task runs")
    cluster.scancel(first)
    assert cluster.wait_job(first).state in ("CANCELLED", "FAILED")
    (cluster.shared / "may-end").touch()  # not before: the first job would complete the run
    (file,) = cluster.shared.glob("long.*.chain.json")
    links = json.loads(file.read_text())["links"]
    follow_up = int(links[0]["follow_up"])
    assert cluster.wait_job(follow_up).state == "COMPLETED", cluster.output(follow_up)
    chain = json.loads(file.read_text())
    assert [link["job_id"] for link in chain["links"]] == [str(first), str(follow_up)]
    assert chain["stopped"] == "the run has completed"
    assert cluster.wait_job(int(chain["links"][1]["follow_up"])).state == "CANCELLED"
    assert (state_of("first"), state_of("second")) == ("completed", "completed")


def test_slurm_reads_any_name_as_it_was_meant(cluster: Cluster) -> None:
    words = (
        cluster.shared / "wf.yaml",
        "-o",
        cluster.shared / "job.sh",
        "--submit",
        "-J",
        NASTY,
        "-e",
        "--hold",
    )
    number = submitted(batch(cluster, *words))
    assert cluster.slurm("squeue", "--noheader", f"--jobs={number}", "--format=%j").strip() == NASTY
    cluster.scancel(number)


def test_public_06_and_07_a_job_submitted_inside_another_is_as_from_a_clean_shell(cluster: Cluster) -> None:
    """Inside a heterogeneous job, with a user's defaults for sbatch, and memory asked for in another way."""
    (cluster.shared / "wf.yaml").write_text(WORKFLOW)
    command = f"{sys.executable} -m sflow_ctl batch {cluster.shared}/wf.yaml --submit -G 2 --time 3"
    places = f"--workspace-dir {cluster.shared} --output-dir {cluster.shared}/out"
    defaults = "SBATCH_TIMELIMIT=77 SBATCH_JOB_NAME=foreign SBATCH_PARTITION=nosuch SBATCH_MEM_PER_NODE=300"
    defaults += " SLURM_JOB_END_TIME=1000"
    script = (
        f"env {defaults} {command} {places} -o {cluster.shared}/one.sh; "
        f"env {defaults} {command} {places} -o {cluster.shared}/two.sh -e --mem-per-cpu=100"
    )
    het = ["salloc", "-N1", ":", "-N1", "bash", "-c", script]
    done = cluster.run_in_node(HEAD, het)
    numbers = [int(number) for number in re.findall(r"Submitted job (\d+)", done.stdout)]
    assert len(numbers) == 2, done.stdout + done.stderr
    asked = {number: cluster.scontrol("show", "job", "--oneliner", str(number)) for number in numbers}
    for number in numbers:
        assert cluster.wait_job(number).state == "COMPLETED", cluster.output(number)
        assert "TimeLimit=00:03:00" in asked[number]
        assert "JobName=sflow" in asked[number]
    assert "MinMemoryNode=300M" in asked[numbers[0]]
    assert "MinMemoryCPU=100M" in asked[numbers[1]]


ASKING = """
version: "0.1"
backends:
  pool:
    type: slurm
    account: lab
    partition: main
    nodes: 1
    gpus_per_node: 2
    time: 5m
    mem: 200M
    cpus_per_task: 2
    exclude: EXCLUDED
    reservation: kept
    dependency: singleton
    mail: {user: me@example.org, type: [end, fail]}
environments:
  e: {source: env.sh, env: {B: "it's b"}, before: ["export C=$A-$B"]}
workflow:
  name: demo
  tasks:
    - {name: t, environment: e, script: ['echo "$C on $SLURMD_NODENAME"']}
    - {name: bad, depends_on: [t], environment: {source: gone.sh}, retries: 2, script: [date]}
"""


def test_slurm_gets_what_a_backend_asks_for_and_tasks_their_environments(cluster: Cluster) -> None:
    first, *others = cluster.settings.node_names
    cluster.scontrol(
        "create", "reservation", "reservationname=kept", "starttime=now", "duration=60", "users=root",
        f"nodes={','.join(others)}", "flags=ignore_jobs",
    )  # fmt: skip
    (cluster.shared / "asking.yaml").write_text(ASKING.replace("EXCLUDED", first))
    (cluster.shared / "env.sh").write_text("export A=a\n")
    try:
        words = (cluster.shared / "asking.yaml", "-o", cluster.shared / "job.sh", "--submit")
        number = submitted(batch(cluster, *words))
        job = cluster.wait_job(number)
        shown = cluster.scontrol("show", "job", "--oneliner", str(number))
    finally:
        cluster.scontrol("delete", "reservation=kept")
    for text in (
        "MinMemoryNode=200M",
        "CPUs/Task=2",
        f"ExcNodeList={first}",
        "Reservation=kept",
        "MailUser=me@example.org",
    ):
        assert text in shown, shown
    assert re.search(r"MailType=\S*END,FAIL", shown), shown
    assert job.state == "FAILED"
    (run,) = (cluster.shared / "out").glob(f"{number}-demo-*")
    assert (run / "t" / "t.log").read_text().splitlines()[-1] in {f"a-it's b on {node}" for node in others}
    tasks = {one["name"]: one for one in json.loads((run / ".sflow/summary.json").read_text())["tasks"]}
    assert (tasks["bad"]["reason_word"], tasks["bad"]["attempts"]) == ("bootstrap", 1)
