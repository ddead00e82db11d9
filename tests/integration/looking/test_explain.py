"""`explain` as a command, on runs of every kind."""

import json
from pathlib import Path

from tests.integration.looking.conftest import ENDING
from tests.support import Run, sflow_ctl


def test_ux_03_a_live_run_says_what_each_task_waits_for(live: Run, tmp_path: Path) -> None:
    text = sflow_ctl("explain", cwd=tmp_path).stdout
    assert text.startswith("live is running: controller pid")
    assert "srv is running on localhost for " in text
    assert "it is ready once: log '^up$'" in text
    assert "    | loading" in text
    assert "it needs srv to be ready; srv is running for " in text
    assert (
        "train is waiting\n  it needs 1 GPU on one node: localhost\n  localhost: 0 of 1 GPU free; srv has 0\n"
        in text
    )
    assert "bad failed after " in text
    assert "  the first failure was bad, failed: exit status 3" in text
    assert "good" not in text


def test_an_ended_run_says_the_first_cause_once(ended: Run, tmp_path: Path) -> None:
    text = sflow_ctl("explain", cwd=tmp_path).stdout
    assert text.count("| oops") == 1
    assert text.count("--resume") == 2
    assert (
        "after did not run\n  fail_fast: the run began to stop before it could start\n  the first failure was bad"
        in text
    )
    report = json.loads(sflow_ctl("explain", "--json", "bad", cwd=tmp_path).stdout)
    (task,) = report["tasks"]
    assert (report["version"], report["liveness"]) == (1, "ended")
    assert task["log_tail"] == ["oops"]
    assert task["explanation"]["because"][0]["kind"] == "cause"
    assert report["next"][0] == "sflow-ctl logs --run sflow_output/ended bad"


def test_a_killed_controller_is_the_cause_of_what_was_live(killed: Run, tmp_path: Path) -> None:
    text = sflow_ctl("explain", "live", "srv", "cli", cwd=tmp_path).stdout
    assert text.startswith("live died: controller pid")
    assert "srv lost" in text
    assert "its controller died while it ran" in text
    assert "cli was waiting when the run ended" in text
    assert "next: sflow-ctl logs --run sflow_output/live srv\n      sflow-ctl run --resume" in text


def test_files_that_are_missing_leave_the_rest(killed: Run, tmp_path: Path) -> None:
    (killed.directory / "bad/bad.log").unlink()
    text = sflow_ctl("explain", "bad", cwd=tmp_path).stdout
    assert "bad failed" in text
    assert "the end of" not in text
    (killed.directory / ".sflow/events.jsonl").unlink()
    assert "bad was waiting when the run ended" in sflow_ctl("explain", "bad", cwd=tmp_path).stdout


GIVEN = """version: "0.1"
secrets: [PASS]
variables: {PASS: hidden-words, HELLO: hi}
backends: {here: {type: local, gpus_per_node: 2}}
workflow:
  name: w
  tasks:
    - name: srv
      script: ["echo up ${{ variables.HELLO }} ${{ task.srv.port.http }}; exec sleep 600"]
      ports: {http: 1}
      probes: {readiness: {log_watch: {match_pattern: up}}}
    - {name: a, script: ["echo '{\\"n\\": 7}' > $SFLOW_OUTPUTS_FILE"], outputs: {n: {kind: param}}}
    - name: b
      script: ["echo got ${{ task.a.outputs.n }} ${{ task.srv.port.http }} $SFLOW_TASK_GPUS; exit 4"]
      resources: {gpus: {count: 1}}
      retries: {count: 1, interval: 0}
      depends_on: [a, srv]
    - {name: c, script: ["echo ${{ task.a.outputs.n }}"], depends_on: [b]}
"""


def test_the_script_and_environment_of_an_attempt_are_shown_with_its_values(tmp_path: Path) -> None:
    run = Run.start(GIVEN, tmp_path, run_id="given")
    assert run.finish()[0] == 1
    log = (run.directory / "b/b.log").read_text().split()
    text = sflow_ctl("explain", "given", "b", "--script", cwd=tmp_path).stdout
    assert f"      echo got 7 {log[2]} $SFLOW_TASK_GPUS; exit 4\n" in text
    assert "  attempt 2, as it was started:\n    on:        localhost with GPU " in text
    assert "      SFLOW_ATTEMPT=2\n" in text
    assert f"      SFLOW_TASK_GPUS={log[3]}\n" in text
    assert "      PASS='***PASS***'\n" in text
    assert "hidden-words" not in text

    shown = json.loads(sflow_ctl("explain", "given", "srv", "c", "--script", "--json", cwd=tmp_path).stdout)
    srv, c = (task["started_with"] for task in shown["tasks"])
    assert srv["nodes"] == [{"node": "localhost", "ports": {"http": [int(log[2])]}}]
    assert srv["env"]["SFLOW_PORT_HTTP"] == log[2]
    assert srv["script"].startswith(f"echo up hi {log[2]}")
    assert (c["attempt"], c["script"]) == (0, "echo ${{ task.a.outputs.n }}")
    assert c["notes"] == ["ports, outputs of other tasks and the like are known when it starts"]
    assert (
        json.loads(sflow_ctl("explain", "given", "b", "--json", cwd=tmp_path).stdout)["tasks"][0][
            "started_with"
        ]
        is None
    )


def test_values_that_are_no_longer_there_leave_the_expressions(tmp_path: Path) -> None:
    run = Run.start(GIVEN, tmp_path, run_id="given")
    run.finish()
    (run.directory / "a/outputs.json").unlink()
    text = sflow_ctl("explain", "b", "--script", cwd=tmp_path).stdout
    assert "note:      expressions are shown as they are written: " in text
    assert "echo got ${{ task.a.outputs.n }}" in text


def test_a_script_is_shown_of_named_tasks_only(ended: Run, tmp_path: Path) -> None:
    result = sflow_ctl("explain", "ended", "--script", cwd=tmp_path)
    assert result.returncode == 2
    assert "--script is given without a task" in result.stderr
    assert "sflow-ctl explain sflow_output/ended TASK --script" in result.stderr


def test_a_section_of_the_format_is_explained_unless_a_task_has_its_name(tmp_path: Path) -> None:
    text = sflow_ctl("explain", "environments", cwd=tmp_path).stdout
    assert text.startswith("environments\n  takes ")
    assert "there are no runs" in sflow_ctl("explain", "enviroments", cwd=tmp_path).stderr
    Run.start(ENDING.replace("good", "artifacts"), tmp_path, run_id="r").finish()
    assert sflow_ctl("explain", "operators", cwd=tmp_path).stdout.startswith("operators\n  takes ")
    both = sflow_ctl("explain", "artifacts", cwd=tmp_path)
    assert "artifacts completed after" in both.stdout
    assert both.stderr == "artifacts is a section of the format as well: sflow-ctl schema artifacts\n"
