"""Every command about a run from a host without a route to its nodes: what the files say, and what a request by file does."""

import re
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left
from tests.slurm.settings import HEAD
from tests.slurm.test_revisions import states
from tests.slurm.test_runs import submit
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

TASKS = (
    "    - {name: srv, operator: one, script: ['trap \"echo usr1\" USR1; echo up; while :; do sleep 0.1; done'],\n"
    "       probes: {readiness: {log_watch: {regex_pattern: up}}}}\n"
    "    - {name: bench, operator: one, depends_on: [srv], script: ['echo hello; sleep 7777']}\n"
    "    - {name: rest, operator: one, replicas: {count: 2}, script: ['sleep 7777']}\n"
    "    - {name: done, operator: one, script: ['echo done']}\n"
)
LOOKING = [
    ("status RUN", 0, r"run is running|run may be running"),
    ("ps", 0, r"run +(running|silent)"),
    ("logs --run RUN bench", 0, "^hello$"),
    ("logs --run RUN bench --node node", 2, "node"),
    ("events RUN --task bench", 0, "bench#1 starting -> running"),
    ("wait RUN done", 0, "done: completed"),
    ("wait RUN --timeout 1", 124, "run has not ended within 1 s: srv is ready"),
    ("wait RUN --for ready --timeout 20", 0, "ready: srv"),
    ("explain RUN bench", 0, "bench is running on node"),
    ("top RUN", 0, "srv +ready"),
    ("report RUN -o REPORT", 0, "r.html: "),
    ("bundle RUN -o BUNDLE", 0, "b.tar.gz: "),
    ("clean --keep 0 --dry-run", 0, "run stays: "),
]
CHANGING = [
    ("signal RUN srv USR1", 0, "srv gets SIGUSR1"),
    ("pause RUN", 0, "the run is paused"),
    ("unpause RUN", 0, "tasks start again"),
    ("restart RUN rest_1", 0, "rest_1 is being stopped, and starts again"),
    ("exec RUN srv -- echo inside", 0, "^inside$"),
    ("scale RUN rest 1", 0, "revision 2 applied: removed rest_1"),
    ("apply RUN FILE --dry-run", 0, r"\+ rest_1  is new"),
    ("stop RUN bench", 0, "bench is being stopped"),
    ("cancel RUN", 0, "stopping the run"),
]
OVER = [
    ("status RUN", 0, "run: was interrupted"),
    ("wait RUN", 130, "was interrupted"),
    ("pause RUN", 2, "the run run has already ended"),
    ("attach RUN", 130, "was interrupted"),
]


def test_every_command_works_by_the_files(cluster: Cluster, tmp_path: Path) -> None:
    number = submit(cluster, TASKS, nodes=2)
    run = cluster.shared / "out" / "run"
    wait_until(lambda: states(run).get("bench") == "running", "the client runs", 60)
    wait_until(lambda: states(run).get("done") == "completed", "the job is done", 60)
    for port in re.findall(r":(\d+)\"", (run / ".sflow/connection.json").read_text()):
        rule = ["INPUT", "-p", "tcp", "--sport", port, "-j", "DROP"]
        assert cluster.run_in_node(HEAD, ["iptables", "-A", *rule]).returncode == 0
    names = {
        "RUN": str(run),
        "FILE": str(cluster.shared / "w.yaml"),
        "REPORT": str(tmp_path / "r.html"),
        "BUNDLE": str(tmp_path / "b.tar.gz"),
    }
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XDG_STATE_HOME": str(tmp_path)}
    wrong = []
    for words, status, text in [*LOOKING, *CHANGING, *OVER]:
        argv = [names.get(word, word) for word in words.split()]
        if argv[0] in ("ps", "clean"):
            argv += ["--output-dir", f"{cluster.shared}/out"]
        done = cluster.run_in_node(HEAD, [*SFLOW_CTL.split(), *argv], env=env)
        said = done.stdout + done.stderr
        if done.returncode != status or not re.search(text, said, re.MULTILINE):
            wrong.append(f"{words}: {done.returncode}\n{said[-600:]}")
    assert wrong == []
    assert "usr1\n" in (run / "srv/srv.log").read_text()
    assert cluster.wait_job(number, within_s=60).state == "FAILED"
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)
