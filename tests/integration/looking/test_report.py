"""`report`, and `report.html` at the end of a run: live, ended, killed and resumed runs, two runs, what is masked."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from sflow_ctl.report.run_report.comparing import RunComparison
from sflow_ctl.report.run_report.model import RunReport
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.reporting.writing import MOST_AT_END, write_at_end
from sflow_ctl.runtime.run.ending import RunEnd
from tests.support import Run, sflow_ctl

SECRET, PASSWORD = "correct-horse-battery", "pa55word-of-the-db"
EVIL = "<script>alert(1)</script>"
WORKFLOW = f"""version: "0.1"
secrets: [HF_TOKEN]
variables:
  HF_TOKEN: {SECRET}
  MY_API_KEY: sesame-open-now
  max_token: 4096
  USERS: {{value: 1, domain: [1, 2]}}
workflow:
  name: w
  tasks:
    - name: bench
      replicas: {{variables: [USERS]}}
      script: ["echo rate=$USERS.5 token=$MY_API_KEY"]
      outputs: [{{pattern: "rate={{rate:f}} token={{seen}}"}}]
    - name: bad
      depends_on: [bench]
      script: ["echo '{EVIL}'; echo postgres://joe:{PASSWORD}@db/x; echo $HF_TOKEN; exit 3"]
"""


def report_of(cwd: Path, *arguments: str | Path) -> RunReport:
    done = sflow_ctl("report", *arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout, type=RunReport)


@pytest.fixture(scope="module")
def secret_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with secrets that has failed, whose log looks like HTML."""
    run = Run.start(WORKFLOW, tmp_path_factory.mktemp("secret"))
    status, output = run.finish()
    assert status == 1, output
    assert "  Report: sflow_output/r/report.html" in output
    return run


def test_a_run_ends_with_a_page_and_its_json_twin(secret_run: Run) -> None:
    page = secret_run.directory / "report.html"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text()
    assert "First cause" in text
    assert "task bad failed: exit status 3" in text
    assert "&lt;script&gt;alert(1)" in text
    assert EVIL not in text
    twin = msgspec.json.decode((secret_run.directory / ".sflow/report.json").read_bytes(), type=RunReport)
    assert [one.state.value for one in twin.tasks] == ["completed", "completed", "failed"]
    assert [one.task for one in twin.path][-1] == "bad"
    assert twin.results is not None
    assert twin.results.plots[0].series[0].values == (1.5, 2.5)
    again = report_of(secret_run.directory.parents[1])
    apart = {"run": again.run, "cause": again.cause}  # when it was made, and how its directory is typed
    assert msgspec.structs.replace(twin, **apart) == again


def test_no_secret_is_in_the_page_or_its_twin(secret_run: Run) -> None:
    cwd = secret_run.directory.parents[1]
    for made in ("report.html", ".sflow/report.json"):
        _assert_masked((secret_run.directory / made).read_text())
    env = {"HF_TOKEN": ""}
    for arguments in (["r", "-o", "-"], ["r", "--json"], ["r", "r", "-o", "-"]):
        done = sflow_ctl("report", *arguments, cwd=cwd, env=env)
        assert done.returncode == 0, done.stderr
        _assert_masked(done.stdout)
        assert (
            "4096" in done.stdout or len(arguments) == 4
        )  # a name with "token" in it: not enough for a number


def _assert_masked(text: str) -> None:
    for value in (SECRET, PASSWORD, "sesame-open-now"):
        assert value not in text, value


def test_the_report_can_be_switched_off(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["true"]}]}\n'
    )
    assert sflow_ctl("run", "w.yaml", "--run-id", "a", "--no-report", cwd=tmp_path).returncode == 0
    with (tmp_path / "w.yaml").open("a") as file:
        file.write("settings: {report: false}\n")
    assert sflow_ctl("run", "w.yaml", "--run-id", "b", cwd=tmp_path).returncode == 0
    assert sflow_ctl("run", "w.yaml", "--run-id", "c", "--report", cwd=tmp_path).returncode == 0
    made = [(tmp_path / "sflow_output" / name / "report.html").exists() for name in "abc"]
    assert made == [False, False, True]


def test_a_task_may_have_the_name_of_the_report(tmp_path: Path) -> None:
    workflow = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: report.html, script: ["echo mine"]}]}\n'
    run = Run.start(workflow, tmp_path)
    assert run.finish()[0] == 0
    assert (run.directory / "report.html/report.html.log").read_text() == "mine\n"
    assert "report.html is a file of a task, and stays" in (run.directory / "sflow.log").read_text()


def test_a_live_run_is_reported_as_it_is_now_and_a_killed_one_as_it_was(
    live: Run, tmp_path: Path, kill: Callable[[Run], None]
) -> None:
    now = report_of(tmp_path)
    states = {one.name: one.state.value for one in now.tasks}
    assert (now.run.state, now.run.exit_status) == ("running", None)
    assert (states["srv"], states["good"], states["after"]) == ("running", "completed", "skipped")
    assert now.tasks[0].attempts[0].ended_s is None
    done = sflow_ctl("report", "live", cwd=tmp_path)
    assert done.stdout.startswith("sflow-report-live.html: "), done.stderr
    assert "▶ running" in (tmp_path / "sflow-report-live.html").read_text()
    assert not (live.directory / "report.html").exists()
    kill(live)
    died = report_of(tmp_path, "live")
    assert died.run.state == "died"
    assert died.tasks[0].attempts[0].end == "lost"
    assert died.tasks[0].attempts[0].ended_s == died.run.duration_s


def test_a_resumed_run_has_the_attempts_of_all_its_controllers(ended: Run, tmp_path: Path) -> None:
    (tmp_path / "ended.yaml").write_text((tmp_path / "ended.yaml").read_text().replace("exit 3", "exit 0"))
    assert sflow_ctl("run", "ended.yaml", "--resume", "ended", cwd=tmp_path).returncode == 0
    report = report_of(tmp_path)
    good, bad, after = report.tasks
    assert [len(one.attempts) for one in (good, bad, after)] == [1, 2, 1]
    assert report.run.state == "completed"
    assert report.run.resumed_by
    assert good.attempts[0].ended_s is not None
    assert bad.attempts[1].starting_s is not None
    assert 0 < good.attempts[0].ended_s < bad.attempts[1].starting_s < report.run.duration_s


def test_two_runs_are_compared(ended: Run, tmp_path: Path) -> None:
    (tmp_path / "ended.yaml").write_text((tmp_path / "ended.yaml").read_text().replace("exit 3", "exit 0"))
    assert sflow_ctl("run", "ended.yaml", "--run-id", "fine", cwd=tmp_path).returncode == 0
    done = sflow_ctl("report", "ended", "fine", "--json", "-o", "d.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = msgspec.json.decode((tmp_path / "d.json").read_bytes(), type=RunComparison)
    changes = {one.path: (one.left, one.right) for one in whole.configuration}
    assert changes["tasks.bad.script"] == ("echo oops >&2; exit 3", "echo oops >&2; exit 0")
    assert set(changes) <= {"tasks.bad.script", "tasks.bad.argv", "command"}
    assert {one.name: one.states for one in whole.tasks[:2]} == {
        "bad": ("failed", "completed"),
        "after": ("cancelled", "completed"),
    }
    assert sflow_ctl("report", "ended", "fine", cwd=tmp_path).stdout.startswith(
        "sflow-report-ended-fine.html: "
    )


def test_odd_targets_and_damaged_records(ended: Run, tmp_path: Path) -> None:
    missing = sflow_ctl("report", "ended", "-o", "nowhere/x.html", cwd=tmp_path)
    assert missing.returncode == 2
    assert "error[file-not-writable]: nowhere/x.html cannot be written" in missing.stderr
    assert sflow_ctl("report", "ended", "-o", os.devnull, cwd=tmp_path).returncode == 0
    assert Path(os.devnull).is_char_device()
    for name in ("nodes.json", "summary.json", "events.jsonl"):
        (ended.directory / ".sflow" / name).write_text("{")
    done = sflow_ctl("report", "ended", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"]["state"] == "died"


def test_a_run_of_very_many_tasks_has_its_report_on_request(tmp_path: Path) -> None:
    state = SimpleNamespace(tasks=dict.fromkeys(range(MOST_AT_END + 1)))
    end = SimpleNamespace(directory=tmp_path, state=state)
    log = RunLog(tmp_path / "sflow.log", "info")
    write_at_end(cast("RunEnd", end), cast("RunFacts", SimpleNamespace(run_id="wide")), log)
    log.close()
    assert "no report.html of 10001 tasks" in (tmp_path / "sflow.log").read_text()
    assert "sflow-ctl report wide makes it" in (tmp_path / "sflow.log").read_text()
    assert not (tmp_path / "report.html").exists()
