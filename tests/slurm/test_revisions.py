"""Another plan for a run on several nodes: the servers keep their processes, also where no route leads to the controller."""

import json
import re
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.slurm.settings import HEAD
from tests.slurm.test_runs import submit, workflow
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

SERVER = (
    "    - {name: srv, operator: one, replicas: {count: 2}, resources: {gpus: {count: 4}}, script:\n"
    "       ['echo up; while :; do [ -e say ] && cat say && break; sleep 0.1; done; sleep 7777'],\n"
    "       probes: {readiness: {log_watch: {regex_pattern: up}}}}\n"
)
CLIENT = "    - {name: bench, operator: one, depends_on: [srv], script: ['echo first; sleep 7777']}\n"
OTHER = CLIENT.replace("first", "with $TOKEN")
MORE = "    - {name: eval, operator: one, depends_on: [srv], script: ['echo evaluating; sleep 7777']}\n"
TOKEN = "swordfish-of-the-head"


def changes(run: Path) -> list[dict[str, object]]:
    """All changes of state, as far as the journal can be read."""
    journal = run / ".sflow/events.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [one["transition"] for one in map(json.loads, lines) if "transition" in one]


def states(run: Path) -> dict[object, object]:
    return {change["task"]: change["new"] for change in changes(run)}


def pids(run: Path) -> dict[object, list[tuple[object, object]]]:
    """The node and process of each attempt of the servers."""
    found: dict[object, list[tuple[object, object]]] = {}
    for change in changes(run):
        if change["new"] == "running" and str(change["task"]).startswith("srv"):
            found.setdefault(change["task"], []).append((change["node"], change["pid"]))
    return found


@pytest.mark.parametrize("way", ["socket", "file"])
def test_a_revision_keeps_the_servers_of_several_nodes(way: str, cluster: Cluster) -> None:
    for left in ("say", "attach.txt"):
        (cluster.shared / left).unlink(missing_ok=True)
    number = submit(cluster, SERVER + CLIENT, nodes=2)
    run = cluster.shared / "out" / "run"
    wait_until(lambda: states(run).get("bench") == "running", "the client runs", 60)
    if way == "file":
        for port in re.findall(r":(\d+)\"", (run / ".sflow/connection.json").read_text()):
            rule = ["INPUT", "-p", "tcp", "--sport", port, "-j", "DROP"]
            assert cluster.run_in_node(HEAD, ["iptables", "-A", *rule]).returncode == 0
    before = pids(run)
    assert len({attempts[0][0] for attempts in before.values()}) == 2
    seen = cluster.shared / "attach.txt"
    cluster.start_in_node(HEAD, ["sh", "-c", f"exec {SFLOW_CTL} attach {run} > {seen} 2>&1"])
    wait_until(lambda: seen.exists() and "first" in seen.read_text(), "attach shows the run", 30)
    path = workflow(cluster, SERVER + OTHER + MORE, nodes=2)
    path.write_text(path.read_text().replace('version: "0.1"', 'version: "0.1"\nsecrets: [TOKEN]'))

    def sflow(*words: str) -> str:
        done = cluster.run_in_node(HEAD, [*SFLOW_CTL.split(), *words], env={"TOKEN": TOKEN})
        assert done.returncode == 0, done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout

    report = json.loads(sflow("apply", str(run), str(path), "--json"))
    assert (report["way"], report["text"]) == (way, "revision 2 applied: changed bench; new eval")
    wait_until(lambda: states(run).get("eval") == "running", "the new task runs", 30)
    log = run / "bench/bench.log"
    wait_until(lambda: log.read_text() == "with ***TOKEN***\n", f"it has the secret: {log.read_text()}", 30)
    assert pids(run) == before
    wait_until(lambda: "evaluating" in seen.read_text(), f"attach follows: {seen.read_text()}", 30)
    assert "eval" in sflow("status", str(run))
    (cluster.shared / "say").write_text(f"{TOKEN}\n")  # the servers have run since before it was a secret
    wait_until(lambda: "TOKEN" in (run / "srv_1/srv_1.log").read_text(), "they have printed it", 30)
    assert report["tasks"][0]["change"] == "unchanged"
    shown = sflow("scale", str(run), "srv", "1")
    assert "removed srv_1" in shown
    wait_until(lambda: states(run)["srv_1"] == "cancelled", "one server is stopped", 30)
    assert pids(run)["srv_0"] == before["srv_0"]
    sflow("stop", str(run))
    assert cluster.wait_job(number, within_s=60).state == "FAILED"  # as of a run that was interrupted
    assert summary(cluster)["outcome"] == "interrupted"
    files = [one for one in run.rglob("*") if one.is_file()]
    assert [one for one in files if TOKEN.encode() in one.read_bytes()] == []
    wait_until(lambda: ours_left(cluster) == [], "attach has ended, too", 30)
