"""Policies in real runs: restarts in place, failures that do not count, tasks at the end, Ctrl-C."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.support import command, kill_run, marked, sflow_ctl, wait_until

HEAD = 'version: "0.1"\nworkflow:\n  name: w\n'


def run(directory: Path, text: str, *options: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """(process, summary) of a run with id R."""
    (directory / "w.yaml").write_text(HEAD + text)
    done = sflow_ctl("run", "w.yaml", "--run-id", "R", *options, cwd=directory)
    return done, json.loads((directory / "sflow_output" / "R" / ".sflow/summary.json").read_text())


def states(summary: dict[str, Any]) -> dict[str, str]:
    return {task["name"]: task["state"] for task in summary["tasks"]}


def log(directory: Path, task: str, name: str = "") -> str:
    return (directory / "sflow_output" / "R" / task / (name or f"{task}.log")).read_text()


def test_f26_a_crashed_server_is_restarted_in_place_and_its_client_continues(tmp_path: Path) -> None:
    done, summary = run(
        tmp_path,
        "  tasks:\n"
        "    - name: server\n"
        "      restart: {max: 1, backoff: 10ms}\n"
        "      probes: {readiness: {log_watch: {match_pattern: up}}}\n"
        "      script: ['echo up; [ $SFLOW_ATTEMPT = 2 ] && exec sleep 60; until [ -e seen ]; do sleep 0.01; done; exit 4']\n"
        "    - name: client\n"
        "      depends_on: [server]\n"
        "      script: ['touch seen; until [ -e sflow_output/R/server/server.attempt-1.log ]; do sleep 0.01; done']\n",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    attempts = {task["name"]: task["attempts"] for task in summary["tasks"]}
    assert attempts == {"server": 2, "client": 1}
    assert "server restart: exit status 4; restart 1 of 1 in 0.01 s" in done.stdout
    assert log(tmp_path, "server") == log(tmp_path, "server", "server.attempt-1.log") == "up\n"


def test_a_failure_that_does_not_count_is_named_and_the_run_succeeds(tmp_path: Path) -> None:
    done, summary = run(
        tmp_path,
        "  tasks:\n"
        "    - {name: flaky, critical: false, script: [exit 3]}\n"
        "    - {name: needs, depends_on: [flaky], script: [echo no]}\n"
        "    - {name: rescue, depends_on: [{task: flaky, until: failed}], script: [echo yes]}\n",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert states(summary) == {"flaky": "failed", "needs": "skipped", "rescue": "completed"}
    assert summary["tolerated"] == ["flaky"]
    assert "1 non-critical failure: flaky" in done.stdout
    assert log(tmp_path, "needs") == ""


def test_a_part_of_the_copies_is_enough_and_failures_of_others_are_named(tmp_path: Path) -> None:
    workflow = (
        "  tasks:\n"
        "    - name: a\n"
        "      replicas: 4\n"
        "      success: {min_ratio: 0.75}\n"
        "      script: ['[ $SFLOW_REPLICA_INDEX != 1 ] && [ $SFLOW_REPLICA_INDEX != \"$ALSO\" ]']\n"
        "    - {name: b, depends_on: [a], script: [echo merged]}\n"
    )
    done, summary = run(tmp_path, workflow)
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary["tolerated"] == ["a_1"]
    assert states(summary)["b"] == "completed"
    assert "a_1" in done.stdout


def test_exit_statuses_say_whether_another_attempt_has_a_point(tmp_path: Path) -> None:
    done, summary = run(
        tmp_path,
        "  on_failure: isolate\n"
        "  tasks:\n"
        "    - {name: busy, retries: {count: 3, interval: 0, reasons: []}, script: ['[ $SFLOW_ATTEMPT = 3 ] || exit 75']}\n"
        "    - {name: bug, retries: {count: 3, interval: 0, reasons: []}, script: [exit 1]}\n"
        "    - {name: usage, retries: {count: 3, interval: 0}, script: [exit 64]}\n"
        "    - {name: own, retries: {count: 1, interval: 0, exit_codes: {fatal: [1]}}, script: [exit 64]}\n",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert states(summary) == {"busy": "completed", "bug": "failed", "usage": "failed", "own": "failed"}
    attempts = {task["name"]: task["attempts"] for task in summary["tasks"]}
    assert attempts == {"busy": 3, "bug": 1, "usage": 1, "own": 2}


def test_the_end_has_its_tasks_whatever_happened_and_ctrl_c_waits_for_them(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        HEAD + "  tasks:\n"
        "    - {name: server, kind: service, script: ['echo $$ > pid; exec sleep 60']}\n"
        "    - {name: long, depends_on: [server], script: ['touch begun; exec sleep 60']}\n"
        "    - {name: up, finally: services_up, script: ['kill -0 $(cat pid) && echo alive']}\n"
        "    - {name: down, finally: true, script: ['kill -0 $(cat pid) || echo gone', 'echo $SFLOW_RUN_OUTCOME']}\n"
    )
    with subprocess.Popen(
        command("run", "w.yaml", "--run-id", "R"), cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        wait_until((tmp_path / "begun").exists, "the task runs")
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert log(tmp_path, "up") == "alive\n"
    assert log(tmp_path, "down").splitlines()[-2:] == ["gone", "interrupted"]


def test_a_second_ctrl_c_ends_the_tasks_of_the_end(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        HEAD + "  tasks:\n"
        "    - {name: long, script: ['touch begun; exec sleep 60']}\n"
        "    - {name: slow, finally: true, timeout: 100, script: ['touch ending; exec sleep 60']}\n"
    )
    with subprocess.Popen(
        command("run", "w.yaml", "--run-id", "R"), cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        wait_until((tmp_path / "begun").exists, "the task runs")
        os.kill(process.pid, signal.SIGINT)
        wait_until((tmp_path / "ending").exists, "the run ends")
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    summary = json.loads((tmp_path / "sflow_output" / "R" / ".sflow/summary.json").read_text())
    assert states(summary) == {"long": "cancelled", "slow": "cancelled"}


def test_keep_alive_lasts_until_the_run_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        HEAD + "  tasks: [{name: s, kind: service, script: ['exec sleep 60']}]\n"
    )
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.returncode == 0
    argv = command("run", "w.yaml", "--run-id", "R", "--keep-alive")
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = ""
        while "ready" not in seen:
            seen = process.stdout.readline()
            assert seen, "it ended before it was ready"
        assert process.poll() is None
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143


def test_agents_that_never_joined_do_not_delay_the_end(tmp_path: Path) -> None:
    done, _ = run(
        tmp_path, "  tasks: [{name: a, script: ['true'], resources: {nodes: {count: 1}}}]\n", "--nodes", "6"
    )
    assert done.returncode == 0
    assert "had not ended and was killed" not in (tmp_path / "sflow_output" / "R" / "sflow.log").read_text()


RESUMED = """  tasks:
    - name: first
      script: ["echo value = $SFLOW_ATTEMPT"]
      outputs: [{pattern: "value = {v:d}"}]
    - name: second
      depends_on: [first]
      script: ['echo $SFLOW_ATTEMPT; touch begun; [ -e go ] || exec sleep 60']
    - name: third
      depends_on: [second]
      script: ['echo ${{ task.first.outputs.v }}']
"""


def test_a_run_whose_controller_was_killed_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        HEAD + RESUMED.replace("depends_on: [second]", "depends_on: [first, second]")
    )
    with subprocess.Popen(
        command("run", "w.yaml", "--run-id", "R"), cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        wait_until((tmp_path / "begun").exists, "the second task runs")
        alive = sflow_ctl("run", "--resume", "R", cwd=tmp_path)
        assert alive.returncode == 2
        assert "is still running" in alive.stderr
        kill_run(process)
        process.wait(60)
    (tmp_path / "go").touch()
    done = sflow_ctl("run", "--resume", "R", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Resuming sflow_output/R: 1 of 3 tasks already completed" in done.stdout
    assert [log(tmp_path, name) for name in ("first", "second", "third")] == ["value = 1\n", "2\n", "1\n"]
    assert log(tmp_path, "second", "second.attempt-1.log") == "1\n"
    assert not marked("R", tmp_path / "sflow_output" / "R")
    again = sflow_ctl("run", "--resume", "R", cwd=tmp_path)
    assert again.returncode == 0
    assert "has completed: there is nothing to resume" in again.stdout


def test_a_changed_task_and_its_dependants_run_again(tmp_path: Path) -> None:
    text = "  tasks:\n    - {name: a, script: [echo A]}\n    - {name: b, depends_on: [a], script: [echo b]}\n"
    bad = text + "    - {name: c, depends_on: [b], script: [exit 1]}\n"
    assert run(tmp_path, bad)[0].returncode == 1
    (tmp_path / "w.yaml").write_text(HEAD + bad.replace("echo A", "echo AA").replace("exit 1", "echo c"))
    done = sflow_ctl("run", "w.yaml", "--resume", "R", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert log(tmp_path, "a") == "AA\n"
    assert log(tmp_path, "b", "b.attempt-1.log") == "b\n"
    assert "a runs again: " in (tmp_path / "sflow_output" / "R" / "sflow.log").read_text()
