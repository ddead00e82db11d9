"""A controller is killed in its job: its supervisor in the batch step starts another one, and agents on all nodes stay."""

import json

import pytest

from sflow_ctl.report.summary import read_summary
from tests.slurm.rig import Cluster
from tests.slurm.runs import fresh, ours_left
from tests.slurm.test_runs import submit
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]


def test_a_job_does_not_notice_that_its_controller_was_killed(cluster: Cluster) -> None:
    go = cluster.shared / "go"
    go.unlink(missing_ok=True)
    script = f"echo $SLURMD_NODENAME $$; until [ -e {go} ]; do sleep 0.1; done; echo done"
    tasks = f"    - {{name: t, resources: {{nodes: {{count: 2}}}}, script: ['{script}']}}\n"
    number = submit(cluster, tasks, nodes=2)
    run = cluster.shared / "out" / "run"
    logs = [run / "t" / f"t.rank-{rank}.log" for rank in (0, 1)]
    wait_until(lambda: all(log.exists() and log.stat().st_size for log in logs), "both ranks run", 60)
    before = [log.read_text() for log in logs]
    host = cluster.job(number).batch_host
    both = [one for one in cluster.processes_in_node(host) if "-m sflow_ctl run" in one.command]
    assert len(both) == 2, [one.command for one in both]
    max(both, key=lambda one: (one.started, one.pid)).kill()
    journal = run / ".sflow/events.jsonl"
    wait_until(lambda: b'"kind":"takeover"' in journal.read_bytes(), "the run is taken over", 30)
    go.touch()
    job = cluster.wait_job(number, within_s=60)
    go.unlink()
    printed = cluster.output(number)
    assert job.state == "COMPLETED", printed
    assert "incarnation 2 took over 1 task in" in printed
    assert [log.read_text() for log in logs] == [f"{one}done\n" for one in before]
    whole = read_summary((run / ".sflow/summary.json").read_bytes())
    assert [(one.signal, one.tasks, one.missing) for one in whole.takeovers] == [("SIGKILL", 1, ())]
    assert json.loads((run / ".sflow/run.json").read_text())["incarnation"] == 2
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)
