"""A live run that the tests of a module share, and an operator's command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Run, sflow_ctl

WORKFLOW = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: srv
      script: ["trap 'echo bye; exit 0' TERM; trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done"]
      probes: {readiness: {log_watch: {regex_pattern: "re:^up$"}}}
    - {name: rest, script: ["sleep 600"]}
    - {name: cli, script: ["sleep 600"], depends_on: [srv]}
    - {name: work, script: ["sleep 600"], replicas: {count: 4}}
    - {name: deaf, script: ["trap '' TERM; while :; do sleep 0.05; done"], stop: {grace: 100}}
    - {name: bad, script: ["[ -e fixed ] || exit 3; sleep 600"], on_failure: isolate}
    - {name: after, script: ["sleep 600"], depends_on: [{task: bad, until: completed}]}
    - {name: later, script: ["echo later"], depends_on: [{task: work, until: completed}]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of this module was started."""
    return tmp_path_factory.mktemp("steering")


@pytest.fixture(scope="module")
def live(place: Path) -> Iterator[Run]:
    """A run with a service, jobs, and one that is deaf to SIGTERM."""
    run = Run.start(WORKFLOW, place, run_id="live")
    try:
        run.wait_for("cli", "running")
        run.wait_for("deaf", "running")
        run.wait_for("bad", "failed")
        yield run
    finally:
        run.kill()


def report(place: Path, *words: str) -> dict[str, Any]:
    """Run a command with `--json`, which must succeed; return what it prints."""
    done = sflow_ctl(*words, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def effects(place: Path, *words: str) -> list[str]:
    """Run a command with `--json`; return what happens to tasks."""
    return [f"{effect['task']} {effect['text']}" for effect in report(place, *words)["effects"]]
