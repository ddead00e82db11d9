"""A controller that stands still or loses its connections: agents come back with their whole truth, nothing starts twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Run, nothing_left, wait_until

WORKFLOW = """version: "0.1"
workflow:
  name: still
  tasks:
    - name: long
      script:
        - echo started >> "$SFLOW_TASK_OUTPUT_DIR/starts"
        - while [ ! -e "$SFLOW_WORKFLOW_OUTPUT_DIR/go" ]; do sleep 0.05; done
        - echo finished
    - name: short
      script: ["sleep 3; echo gone while nobody looked"]
    - name: after
      depends_on: [long, short]
      script: ["echo after"]
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run with two tasks running."""
    made = Run.start(WORKFLOW, tmp_path, "--orphan-grace", "60", "--lost-after", "60")
    made.wait_for("long", "running")
    made.wait_for("short", "running")
    yield made
    made.kill()


def sessions(run: Run) -> int:
    """Sessions that an agent has begun."""
    return sum(1 for entry in run.entries() if type(entry.event).__name__ == "AgentJoined")


def test_a_controller_that_stood_still_takes_its_agents_back(run: Run) -> None:
    short = run.pid_of("short")
    os.kill(run.controller, signal.SIGSTOP)
    wait_until(lambda: not Path(f"/proc/{short}").exists(), "the short task has ended meanwhile")
    agent = run.agents()[0]
    # Three silent heartbeats and the agent dials anew: a second connection of the same process to the controller's port.
    before = connections(agent)
    wait_until(lambda: connections(agent) - before, "a new connection")
    os.kill(run.controller, signal.SIGCONT)
    wait_until(lambda: sessions(run) >= 2, "a second hello")
    (run.directory / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    assert run.states() == {"long": "completed", "short": "completed", "after": "completed"}
    assert (run.directory / "long" / "starts").read_text() == "started\n"
    assert "[short] gone while nobody looked" in output
    nothing_left(run)


def connections(pid: int) -> set[str]:
    """The process's sockets."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
