"""`Run`: live runs, ended ones, and one whose controller was killed."""

import os
import re
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from sflow_ctl.api import FleetError, Run, StartError, Workflow, runs
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim
from tests.support import PATIENCE_S, kill_at_once, wait_until


def long_run(tmp_path: Path, script: str = "echo up; sleep 600") -> Run:
    workflow = Workflow("long", keep_alive=True)
    workflow.task("server", script, probes={"readiness": {"log_watch": {"regex_pattern": "up"}}})
    workflow.task("client", "echo asked", depends_on="server")
    return workflow.run(is_awaited=False, workspace=tmp_path)


def end(run: Run) -> None:
    if run.status().is_live:
        run.stop(is_killed=True)
        run.wait(timeout_s=PATIENCE_S)


def test_a_run_that_has_ended_says_all_of_it(tmp_path: Path) -> None:
    workflow = Workflow("rates", variables={"WHO": "nobody"})
    workflow.task("ask", "echo for $WHO; echo rate 5", outputs={"pattern": "rate {rate:d}"}, replicas=2)
    workflow.task("fail", "echo wrong; exit 3", depends_on="ask")
    run = workflow.run(variables={"WHO": "you: me"}, workspace=tmp_path)
    status = run.status()
    assert (status.outcome, status.exit_status, status.is_live) == (Outcome.FAILED, 1, False)
    assert "fail" in status.cause
    assert status.counts == {TaskState.COMPLETED: 2, TaskState.FAILED: 1}
    assert status.ended is not None
    assert status.started < status.ended
    (failed,) = run.instances("state=failed")
    assert (failed.name, failed.exit_code, failed.attempts, failed.is_ended) == ("fail", 3, 1, True)
    assert run["ask_0"].task == "ask"
    with pytest.raises(KeyError):
        run["nobody"]
    assert run.outputs() == {"ask_0": {"rate": 5}, "ask_1": {"rate": 5}}
    assert run.outputs("ask_1") == {"ask_1": {"rate": 5}}
    assert run.logs("ask_0") == "for you: me\nrate 5\n"
    assert [line.task for line in run.lines("ask", "fail")].count("fail") == 1
    assert [row["rate"] for row in run.rows() if row["task"] == "ask"] == [5, 5]
    texts = [one.text for one in run.events(types=["state"]) if one.task == "fail"]
    assert texts[-1].startswith("fail#1 running -> failed")
    assert "failed" in run._repr_html_()
    assert re.search(r"\d\.\d{8}", run._repr_html_()) is None, "seconds are shown, not all digits of a float"
    assert run.report() == run.directory / "report.html"
    assert run.report(tmp_path / "seen.html").stat().st_size > 1000
    assert Run.open(run.id, tmp_path / "sflow_output").directory == run.directory
    assert [one.id for one in runs(tmp_path / "sflow_output") if one.directory == run.directory] == [run.id]
    with pytest.raises(FleetError, match="unknown-task"):
        run.logs("nobody")
    with pytest.raises(FleetError, match="has already ended"):
        run.stop()


def test_a_live_run_is_awaited_changed_and_stopped(tmp_path: Path) -> None:
    run = long_run(tmp_path)
    try:
        run.wait("server", until="ready", timeout_s=PATIENCE_S)
        assert run.status().is_live
        run.wait("client", timeout_s=PATIENCE_S)
        assert run.outputs() == {}
        with pytest.raises(TimeoutError):
            run.wait(timeout_s=0.2)
        assert run.restart("client").startswith("client starts again")
        wait_until(lambda: run["client"].attempts == 2 and run["client"].is_ended, "client ran again")
        run.pause()
        run.unpause()
        run.signal(signal.SIGCONT, "server")
        with pytest.raises(FleetError, match="nobody"):
            run.stop("nobody")
        followed: list[str] = []
        reader = threading.Thread(
            target=lambda: followed.extend(one.text for one in run.events(is_following=True))
        )
        reader.start()
        run.stop("server")
        run.wait(timeout_s=PATIENCE_S)
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
        assert any("server#1" in text for text in followed)
        assert not run.status().is_live
    finally:
        end(run)


def test_a_run_whose_controller_died_says_so(tmp_path: Path) -> None:
    run = long_run(tmp_path)
    claim = read_claim(run.directory / layout.CLAIM)
    assert claim is not None
    run.wait("server", until="ready", timeout_s=PATIENCE_S)
    kill_at_once([claim.supervisor, claim.pid])
    with pytest.raises(FleetError, match="run --resume"):
        run.wait(timeout_s=PATIENCE_S)
    status = run.status()
    assert (status.liveness.value, status.outcome) == ("dead", None)
    assert run["server"].state is TaskState.LOST
    with pytest.raises(FleetError, match="died"):
        run.stop()


def test_a_task_that_ended_will_not_become_ready(tmp_path: Path) -> None:
    run = long_run(tmp_path, "sleep 0.2; exit 4")
    with pytest.raises(FleetError, match="server is not ready: failed"):
        run.wait("server", until="ready", timeout_s=PATIENCE_S)


def test_a_failed_task_is_run_again(tmp_path: Path) -> None:
    workflow = Workflow("again")
    workflow.task("first", "echo made")
    workflow.task("second", "test -e there && echo found", depends_on="first")
    run = workflow.run(workspace=tmp_path)
    assert run.status().outcome is Outcome.FAILED
    (tmp_path / "there").touch()
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        run.rerun("second")
    finally:
        os.chdir(here)
    assert run.status().is_completed
    assert (run["first"].attempts, run["second"].attempts) == (1, 2)
    with pytest.raises(StartError, match="nobody"):
        run.rerun("nobody")


def test_a_run_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"no-runs|no-such-run"):
        Run.open("nobody", tmp_path)
    with pytest.raises(FleetError, match="run-not-readable"):
        Run(tmp_path)


def test_a_notebook_shows_how_far_a_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython, which is not installed here, is imported by notebooks: its two names stand in for it."""
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda html: shown.append(html))

    def display(html: str, display_id: bool) -> object:
        assert display_id, "without it nothing can be replaced"
        assert not shown, "shown once, then replaced"
        shown.append(html)
        return handle

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display, HTML=str))
    workflow = Workflow("steps", on_failure="continue")
    said = 'echo "{\\"current\\": 3, \\"total\\": 4, \\"message\\": \\"<fast>\\"}" >> "$SFLOW_PROGRESS_FILE"'
    workflow.task("train", [said, "until test -e go; do sleep 0.05; done"])
    workflow.task("wrong", "exit 3")
    run = workflow.run(is_awaited=False, workspace=tmp_path)
    waiting = threading.Thread(target=run.wait, daemon=True)
    waiting.start()
    progress = "running: train (3 of 4 (75 %): &lt;fast&gt;)"
    try:
        wait_until(lambda: any(progress in one for one in shown), "progress")
    finally:
        (tmp_path / "go").touch()
    waiting.join(PATIENCE_S)
    assert f"<b>{run.id}</b> 2 of 2 ended: 1 completed, 1 failed<br>failed: wrong" in shown[-1]
    del shell.kernel  # IPython in a terminal shows nothing: its lines cannot be replaced
    number = len(shown)
    run.wait()
    assert len(shown) == number
