"""Programs that cannot be started: a failure of their task, with the reason, and no waiting for logs that never were."""

import os
import select
from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from protocol.machine.marks import RUN_MARKER
from protocol.messages.rank_spec import RankSpec
from sflow_agent.descriptors import Descriptors
from sflow_agent.logs import output
from sflow_agent.node.gpu_view import GpuView
from sflow_agent.node.interfaces import Interfaces
from sflow_agent.processes import spawn
from tests.support import Run, nothing_left

WORKFLOW = """version: "0.1"
operators:
  elsewhere: {type: srun, chdir: /nonexistent}
workflow:
  name: launch
  tasks:
    - {name: lost, operator: elsewhere, retries: {count: 1, interval: 0}, script: ["true"]}
    - {name: other, script: ["sleep 1000"]}
"""


def test_a_task_that_cannot_be_started_fails_the_run_at_once(tmp_path: Path) -> None:
    run = Run.start(WORKFLOW, tmp_path)
    try:
        # An agent gives its logs 30 s to arrive: it must not wait for the log of a process that never was.
        status, output = run.finish(within_s=20.0)
    finally:
        run.kill()
    assert status == 1
    assert "lost could not be started" in output
    assert "/nonexistent" in output
    assert run.states() == {"lost": "failed", "other": "cancelled"}
    attempts = [
        e.transition.attempt for e in run.entries() if e.transition and e.transition.new.value == "starting"
    ]
    assert sorted(attempts) == [1, 1, 2]
    nothing_left(run)


def test_a_directory_that_is_made_while_we_look_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = output.make_log_directory

    def racing(path: str) -> None:
        (tmp_path / "a").mkdir()
        real(path)

    monkeypatch.setattr(output, "make_log_directory", racing)
    outputs = output.Outputs(Descriptors(select.epoll()), None, print)
    spawner = spawn.Spawner(
        str(tmp_path),
        {"PATH": "/usr/bin:/bin", RUN_MARKER: "m"},
        GpuView(),
        "n0",
        Interfaces(is_chosen=False),
    )
    rank = RankId(AttemptId("a", 1), 0)
    spec = RankSpec(rank=rank, argv=("bash", "-c", "echo hi"), env={}, log="a/a.log")
    pid, _ = spawner.spawn(spec, lambda log: outputs.open(rank, log, 0.0))
    _, status = os.waitpid(pid, 0)
    outputs.drain(rank)
    assert status == 0
    assert (tmp_path / "a" / "a.log").read_text() == "hi\n"
