"""`apply` on a serving stack of real programs: etcd, NATS, workers behind nginx, and a benchmark with another parameter."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sflow_ctl.core.states import Transition
from tests.support import Run, nothing_left, sflow_ctl, wait_until

EXAMPLE = Path(__file__).parents[3] / "examples/serving.yaml"
SERVERS = ("etcd", "nats", "worker_0", "worker_1", "worker_2", "worker_3", "router")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Run]:
    """The stack, kept alive, once its benchmark has completed."""
    text = EXAMPLE.read_text().replace("  name: serving\n", "  name: serving\n  keep_alive: true\n")
    text = text.replace("value: 640", "value: 16").replace("domain: [1, 4, 16]", "domain: [1]")
    run = Run.start(text, tmp_path, run_id="stack")
    try:
        run.wait_for("bench_1", "completed")
        yield run
    finally:
        run.kill()


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
@pytest.mark.skipif(shutil.which("nats-server") is None, reason="nats-server is not installed")
@pytest.mark.skipif(shutil.which("nginx", path="/usr/bin:/usr/sbin") is None, reason="nginx is not installed")
def test_a_changed_benchmark_runs_against_the_same_servers(serving: Run, tmp_path: Path) -> None:
    pids = {task: serving.pid_of(task) for task in SERVERS}
    other = (tmp_path / "stack.yaml").read_text().replace("value: 16", "value: 32")
    (tmp_path / "other.yaml").write_text(other)
    done = sflow_ctl("apply", "stack", "other.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {one["task"] for one in report["tasks"] if one["change"] == "changed"} == {"bench_1"}
    outputs = serving.directory / "bench_1/outputs.json"
    wait_until(lambda: "32" in outputs.read_text(), "its result")
    assert {task: serving.pid_of(task) for task in SERVERS} == pids
    asked = next(one for one in serving.entries() if one.request is not None)
    begun = next(one for one in serving.entries() if _begins_again(one.transition))
    assert (
        begun.wall_ns - asked.wall_ns
    ) / 1e9 < 2.0  # the figure of bench.apply, on a machine with other work
    serving.kill_controller()
    wait_until(lambda: len({one.incarnation for one in serving.entries()}) > 1, "a successor")
    assert sflow_ctl("stop", "stack", cwd=tmp_path).returncode == 0
    assert {task: serving.pid_of(task) for task in SERVERS} == pids
    nothing_left(serving)


def _begins_again(change: Transition | None) -> bool:
    return change is not None and (change.task, change.new, change.attempt) == ("bench_1", "running", 2)
