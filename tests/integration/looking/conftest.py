"""Runs of every kind, shared by the tests of the commands that look at them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import Run, nothing_left

WORKFLOW = """version: "0.1"
backends: {here: {type: local, gpus_per_node: 1}}
workflow:
  name: w
  tasks:
    - name: srv
      script: ["echo loading; while [ ! -e up ]; do sleep 0.05; done; echo up; exec sleep 600"]
      resources: {gpus: {count: 1}}
      probes: {readiness: {log_watch: {regex_pattern: "re:^up$"}}}
    - {name: cli, script: ["true"], depends_on: [srv]}
    - {name: train, script: ["true"], resources: {gpus: {count: 1}}}
    - {name: bad, script: ["echo oops >&2; exit 3"], on_failure: continue}
    - {name: after, script: ["true"], depends_on: [bad]}
    - {name: good, script: ["echo fine"]}
"""
ENDING = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: good, script: ["echo fine"]}
    - {name: bad, script: ["echo oops >&2; exit 3"], depends_on: [good]}
    - {name: after, script: ["true"], depends_on: [bad]}
"""


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Run]:
    """A run whose service becomes ready once there is a file `up`."""
    run = Run.start(WORKFLOW, tmp_path, run_id="live")
    try:
        run.wait_for("srv", "running")
        run.wait_for("after", "skipped")
        run.wait_for("good", "completed")
        yield run
    finally:
        run.kill()


@pytest.fixture
def ended(tmp_path: Path) -> Run:
    """A run that has failed."""
    run = Run.start(ENDING, tmp_path, run_id="ended")
    assert run.finish()[0] == 1
    return run


@pytest.fixture
def killed(live: Run) -> Run:
    """A run whose supervisor and controller were killed; its agent has ended its tasks since."""
    kill_controller(live)
    return live


@pytest.fixture
def kill() -> Callable[[Run], None]:
    return kill_controller


def kill_controller(run: Run) -> None:
    run.kill_both()
    run.process.wait()
    nothing_left(run)
