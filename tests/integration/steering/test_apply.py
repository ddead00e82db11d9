"""`apply` on a live run: what changes starts again, servers keep their processes, and every controller knows the revision."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Run, command, nothing_left, sflow_ctl, wait_until

WORKFLOW = """version: "0.1"
variables:
  REQUESTS: {type: integer, value: 640}
workflow:
  name: w
  keep_alive: true
  tasks:
    - name: srv
      ports: {http: 1}
      script: ["echo up; exec sleep 600"]
      probes: {readiness: {log_watch: {regex_pattern: "re:^up$"}}}
    - name: bench
      depends_on: [srv]
      script: ["echo $REQUESTS at ${{ task.srv.endpoint.http }}; exec sleep 600"]
    - name: warmup
      depends_on: [srv]
      script: ["exec sleep 600"]
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.kill()


@pytest.fixture
def live(tmp_path: Path, started: list[Run]) -> Run:
    """A server, its clients, and the file of another workflow."""
    run = Run.start(WORKFLOW, tmp_path, run_id="live")
    started.append(run)
    run.wait_for("bench", "running")
    run.wait_for("warmup", "running")
    wait_until(lambda: " at " in log(run, "bench"), "the client has printed something")
    other = WORKFLOW.replace("640", "100").replace("warmup", "eval")
    (tmp_path / "other.yaml").write_text(other)
    return run


def apply(place: Path, *words: str) -> dict[str, Any]:
    done = sflow_ctl("apply", *words, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def resume(place: Path) -> Run:
    """Resume the run; nothing reads what it prints."""
    quiet = subprocess.DEVNULL
    words = command("run", "--resume", "live")
    process = subprocess.Popen(
        words, cwd=place, stdin=quiet, stdout=quiet, stderr=quiet, text=True, start_new_session=True
    )
    run = Run(process, place / "sflow_output/live")
    wait_until(lambda: [*(run.directory / ".sflow").glob("plan.*.json")], "the resume has begun")
    return run


def kinds(report: dict[str, Any]) -> dict[str, str]:
    return {one["task"]: one["change"] for one in report["tasks"]}


def log(run: Run, task: str) -> str:
    return (run.directory / task / f"{task}.log").read_text()


OTHER = {"srv": "unchanged", "bench": "changed", "eval": "new", "warmup": "removed"}


def test_what_changes_starts_again_and_the_server_is_left_alone(live: Run, tmp_path: Path) -> None:
    server, client = live.pid_of("srv"), live.pid_of("bench")
    port = log(live, "bench").split()[-1]
    dry = apply(tmp_path, "live", "other.yaml", "--dry-run")
    assert kinds(dry) == OTHER
    assert (dry["base"], dry["revision"], dry["is_dry_run"], dry["request"]) == (1, 2, True, "")
    assert live.pid_of("bench") == client
    report = apply(tmp_path, "live", "other.yaml")
    assert kinds(report) == OTHER
    assert report["text"] == "revision 2 applied: changed bench; new eval; removed warmup"
    live.wait_for("eval", "running")
    wait_until(lambda: live.pid_of("bench") != client, "the benchmark runs again")
    wait_until(lambda: log(live, "bench") == f"100 at {port}\n", "with the other value, at the same port")
    live.wait_for("warmup", "cancelled")
    assert live.pid_of("srv") == server
    again = sflow_ctl("apply", "live", "other.yaml", cwd=tmp_path)
    assert again.stdout == "live: nothing changes, revision 2 stays\n"
    shown = sflow_ctl("status", "live", cwd=tmp_path).stdout
    assert "eval" in shown
    assert "removed" in shown
    assert "eval" in sflow_ctl("explain", "live", "eval", cwd=tmp_path).stdout
    assert "100 at" in sflow_ctl("logs", "bench", cwd=tmp_path).stdout
    events = sflow_ctl("events", "live", cwd=tmp_path).stdout
    assert "apply revision 2: revision 2 applied: changed bench; new eval; removed warmup\n" in events
    assert sflow_ctl("stop", "live", cwd=tmp_path).returncode == 0
    nothing_left(live)
    summary = live.summary()
    assert {task.name for task in summary.tasks} == {"srv", "bench", "warmup", "eval"}


def test_a_successor_and_a_resume_know_the_revision(live: Run, tmp_path: Path, started: list[Run]) -> None:
    apply(tmp_path, "live", "other.yaml")
    live.wait_for("eval", "running")
    pids = {task: live.pid_of(task) for task in ("srv", "bench", "eval")}
    live.kill_controller()
    (tmp_path / "third.yaml").write_text(WORKFLOW.replace("640", "50"))
    report = apply(tmp_path, "live", "third.yaml")  # the successor takes it
    assert kinds(report) == {"srv": "unchanged", "bench": "changed", "warmup": "new", "eval": "removed"}
    assert report["revision"] == 3
    wait_until(lambda: log(live, "bench").startswith("50 "), "the successor has applied it")
    live.wait_for("eval", "cancelled")
    live.wait_for("warmup", "running")
    assert live.pid_of("srv") == pids["srv"]
    live.kill_controller()
    live.kill_both()
    live.process.wait()
    nothing_left(live)
    started.append(resume(tmp_path))
    live.wait_for("srv", "ready")
    wait_until(lambda: log(live, "bench").startswith("50 "), "the resume has the newest values")
    assert kinds(apply(tmp_path, "live", "third.yaml")) == dict.fromkeys(
        ("srv", "bench", "warmup"), "unchanged"
    )
    report = apply(tmp_path, "live", "other.yaml")
    assert (report["base"], report["revision"]) == (3, 4)


def test_what_is_wrong_or_cannot_change_is_refused_before_anything_is_done(live: Run, tmp_path: Path) -> None:
    pids = {task: live.pid_of(task) for task in ("srv", "bench", "warmup")}
    bad = tmp_path / "bad.yaml"
    bad.write_text(WORKFLOW.replace("depends_on: [srv]", "depends_on: [nobody]"))
    done = sflow_ctl("apply", "live", "bad.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "bad.yaml:13" in done.stderr
    bad.write_text(
        WORKFLOW.replace(
            "workflow:\n  name: w\n", "backends:\n  here: {type: local, nodes: 2}\nworkflow:\n  name: w\n"
        )
    )
    done = sflow_ctl("apply", "live", "bad.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "error[not-while-it-runs]: backend here is new" in done.stderr
    assert "bad.yaml:5" in done.stderr
    assert "run --resume" in done.stderr
    bad.write_text(WORKFLOW.replace("name: w\n", "name: v\n"))
    assert "this is workflow v" in sflow_ctl("apply", "live", "bad.yaml", cwd=tmp_path).stderr
    assert "no workflow file" in sflow_ctl("apply", "live", cwd=tmp_path).stderr
    assert not (live.directory / ".sflow/plans").exists()
    assert pids == {task: live.pid_of(task) for task in pids}


def test_values_of_the_command_line_hold_until_others_are_given(live: Run, tmp_path: Path) -> None:
    apply(tmp_path, "live", "live.yaml", "--set", "REQUESTS=7")
    wait_until(lambda: log(live, "bench").startswith("7 "), "the value of the command")
    report = apply(tmp_path, "live.yaml")
    assert set(kinds(report).values()) == {"unchanged"}  # as with a resume


SCALED = """version: "0.1"
workflow:
  name: w
  keep_alive: true
  tasks:
    - name: srv
      replicas: {count: 2}
      ports: {http: 1}
      script: ["echo up; exec sleep 600"]
      probes: {readiness: {log_watch: {regex_pattern: "re:^up$"}}}
    - {name: cli, depends_on: [srv], script: ["exec sleep 600"]}
    - name: router
      depends_on: [srv]
      script: ["echo ${{ task.srv.endpoints.http }}; exec sleep 600"]
"""


def test_replicas_are_added_and_taken_away(tmp_path: Path, started: list[Run]) -> None:
    run = Run.start(SCALED, tmp_path, run_id="scaled")
    started.append(run)
    run.wait_for("router", "running")
    pids = {task: run.pid_of(task) for task in ("srv_0", "cli")}

    def scale(*words: str) -> str:
        done = sflow_ctl("scale", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "revision 2 applied: changed router; new srv_2" in scale("scaled", "srv", "3")
    wait_until(lambda: log(run, "router").count("127.0.0.1") == 3, "the router knows the third")
    assert "revision 3 applied: changed router; removed srv_1, srv_2" in scale("srv", "1")
    run.wait_for("srv_2", "cancelled")
    wait_until(lambda: log(run, "router").count("127.0.0.1") == 1, "the router knows one")
    assert pids == {task: run.pid_of(task) for task in pids}
    assert "new srv_1" in scale("srv", "2")  # it comes back
    run.wait_for("srv_1", "ready")
    for words, text in (
        (("cli", "2"), "cli is not replicated"),
        (("srv", "0"), "not a number"),
        (("x", "1"), "no task"),
    ):
        done = sflow_ctl("scale", *words, cwd=tmp_path)
        assert (done.returncode, text in done.stderr) == (2, True), done.stderr
    assert (
        "nothing changes" in sflow_ctl("apply", "scaled.yaml", cwd=tmp_path).stdout
    )  # its own number is 2 as well


def test_of_a_run_that_has_ended_no_plan_changes(live: Run, tmp_path: Path) -> None:
    assert sflow_ctl("stop", "live", "--kill", cwd=tmp_path).returncode == 0
    done = sflow_ctl("apply", "live", "other.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "error[run-has-ended]: live has ended" in done.stderr


def test_a_request_by_file_is_applied_as_well(live: Run, tmp_path: Path) -> None:
    connection = live.directory / ".sflow/connection.json"
    shutil.move(connection, tmp_path / "away")
    report = apply(tmp_path, "live", "other.yaml")
    assert report["way"] == "file"
    live.wait_for("eval", "running")
