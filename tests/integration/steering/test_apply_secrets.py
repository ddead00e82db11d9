"""Secrets that a revision names: they reach tasks, are masked everywhere from then on, and a removed one stays masked."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Run, sflow_ctl, wait_until

NEW, OLD, PLAIN = "swordfish-1-new", "hunter2-first", "was-plain-before"
WORKFLOW = f"""version: "0.1"
secrets: [OLD_TOKEN]
variables:
  OLD_TOKEN: {OLD}
  PLAIN: {PLAIN}
workflow:
  name: w
  keep_alive: true
  tasks:
    - name: srv
      script: ["echo up; while [ ! -e say ]; do sleep 0.05; done; echo $PLAIN $(cat say); exec sleep 600"]
      probes: {{readiness: {{log_watch: {{regex_pattern: "re:^up$"}}}}}}
    - {{name: bench, depends_on: [srv], script: ["echo $OLD_TOKEN; exec sleep 600"]}}
"""
OTHER = WORKFLOW.replace("secrets: [OLD_TOKEN]", "secrets: [PLAIN, NEW_TOKEN]").replace(
    "echo $OLD_TOKEN;", "echo $OLD_TOKEN and $NEW_TOKEN;"
)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Run]:
    run = Run.start(WORKFLOW, tmp_path, run_id="live")
    (tmp_path / "other.yaml").write_text(OTHER)
    try:
        run.wait_for("bench", "running")
        yield run
    finally:
        run.kill()


def apply(place: Path, *words: str) -> str:
    done = sflow_ctl("apply", "live", *words, cwd=place, env={"NEW_TOKEN": NEW})
    assert done.returncode == 0, done.stderr
    assert NEW not in done.stdout + done.stderr
    return done.stdout


def log(run: Run, task: str) -> str:
    return (run.directory / task / f"{task}.log").read_text()


def values_in(directory: Path, *values: str) -> list[str]:
    """Return the files below a directory that have a value in them."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return [f"{path}: {value}" for path in found for value in values if value.encode() in path.read_bytes()]


@pytest.mark.parametrize("way", ["socket", "file"])
def test_a_new_secret_reaches_tasks_and_is_masked_and_a_removed_one_stays_so(
    way: str, live: Run, tmp_path: Path
) -> None:
    server = live.pid_of("srv")
    if way == "file":
        shutil.move(live.directory / ".sflow/connection.json", tmp_path / "away")
    shown = apply(tmp_path, "other.yaml", "--dry-run")
    assert "~ bench  starts again: its script changed" in shown
    assert "srv" not in shown.replace("continues as before: srv", "")
    assert "changed bench" in apply(tmp_path, "other.yaml")
    wait_until(lambda: " and " in log(live, "bench"), "the task has the value")
    assert log(live, "bench") == "***OLD_TOKEN*** and ***NEW_TOKEN***\n"
    (tmp_path / "say").write_text(f"{NEW} {OLD}")  # the server has run since before, and prints it
    wait_until(lambda: "***" in log(live, "srv"), "it has said so")
    assert log(live, "srv") == "up\n***PLAIN*** ***NEW_TOKEN*** ***OLD_TOKEN***\n"
    assert live.pid_of("srv") == server
    assert "nothing changes" in apply(tmp_path, "other.yaml")
    assert not list((live.directory / ".sflow/requests").glob("*"))
    done = sflow_ctl("status", "live", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["liveness"] == "running"
    assert sflow_ctl("stop", "live", cwd=tmp_path).returncode == 0
    live.process.wait(20)
    assert values_in(live.directory, NEW, OLD) == []
    done = sflow_ctl("bundle", "live", "-o", "b.tar.gz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_successor_has_the_new_value(live: Run, tmp_path: Path) -> None:
    apply(tmp_path, "other.yaml")
    wait_until(lambda: " and " in log(live, "bench"), "the task has the value")
    live.kill_controller()
    third = OTHER.replace("echo $OLD_TOKEN and", "echo third $OLD_TOKEN and")
    (tmp_path / "third.yaml").write_text(third)
    assert "changed bench" in apply(tmp_path, "third.yaml")
    wait_until(lambda: "third" in log(live, "bench"), "the successor has applied it")
    assert log(live, "bench") == "third ***OLD_TOKEN*** and ***NEW_TOKEN***\n"
    again = sflow_ctl("restart", "live", "bench", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert values_in(live.directory, NEW, OLD) == []


def test_another_value_than_the_run_has_is_refused(live: Run, tmp_path: Path) -> None:
    apply(tmp_path, "other.yaml")
    (tmp_path / "third.yaml").write_text(OTHER.replace("echo $OLD_TOKEN and", "echo third"))
    done = sflow_ctl("apply", "live", "third.yaml", cwd=tmp_path, env={"NEW_TOKEN": "another-value"})
    assert done.returncode == 2
    assert "the value of secret NEW_TOKEN is another one than the run" in done.stderr
    assert "another-value" not in done.stderr
