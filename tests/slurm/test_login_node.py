"""A login node that compute nodes cannot reach: the message, and that its remedies work."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.record import PREFIX
from tests.slurm.rig import Cluster, reason_for_none
from tests.slurm.runs import SFLOW_CTL
from tests.slurm.settings import HEAD, Settings, address

pytestmark = pytest.mark.slurm

WORKFLOW = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 2, gpus_per_node: 1}}
workflow: {name: w, tasks: [{name: t, script: [hostname]}]}
"""


@pytest.fixture(scope="module")
def walled() -> Iterator[Cluster]:
    """The head accepts new connections for Slurm's own ports only, as the login nodes of many sites do."""
    reason = reason_for_none()
    if reason is not None:
        pytest.skip(f"no Slurm cluster can be started here: {reason}")
    settings = Settings(nodes=2, options={"SrunPortRange": "61000-62000"})
    cluster = Cluster.start(settings, Path(tempfile.mkdtemp(prefix=PREFIX)))
    try:
        wall = "iptables -A INPUT -i eth0 -p tcp --syn --dport 20000:60000 -j DROP"
        assert cluster.run_in_node(HEAD, wall.split()).returncode == 0
        (cluster.shared / "w.yaml").write_text(WORKFLOW)
        yield cluster
    finally:
        cluster.end()


def test_an_unreachable_controller_reports_its_addresses_and_a_remedy(walled: Cluster) -> None:
    argv = f"{SFLOW_CTL} run {walled.shared}/w.yaml --output-dir {walled.shared}/out --join-within 12"
    done = walled.run_in_node(HEAD, argv.split())
    assert done.returncode == 3, done.stdout + done.stderr
    said = done.stderr
    own = address(HEAD)
    assert "error[agents-missing]: 2 of 2 agents have not reported within 12 s: node0, node1" in said
    assert f"they were given the address {own}:" in said
    assert f"the agent on node1 gets no answer from the controller at {own}:" in said
    assert "one of eth0 (--interface)" in said
    assert "run inside the allocation, with sflow-ctl batch" in said
    assert not list((walled.shared / "out").iterdir())


def test_inside_the_allocation_it_works(walled: Cluster) -> None:
    argv = [*SFLOW_CTL.split(), "batch", f"{walled.shared}/w.yaml", "-o", f"{walled.shared}/w.sh", "--submit"]
    argv += ["--output-dir", f"{walled.shared}/batch", "--workspace-dir", str(walled.shared)]
    path = f"{Path(sys.executable).parent}{os.pathsep}/usr/sbin:/usr/bin:/sbin:/bin"
    done = walled.run_in_node(HEAD, argv, env={"PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    number = max(int(line) for line in walled.slurm("squeue", "-h", "-t", "all", "-o", "%i").splitlines())
    assert walled.wait_job(number).state == "COMPLETED", done.stdout
    (log,) = (walled.shared / "batch").glob("*/t/t.log")
    assert sorted(log.read_text().splitlines()) == ["0: node0", "1: node1"]
