"""`restart`, `signal`, `pause` and `unpause` on a live run, an ended one, and one that died."""

from pathlib import Path

import pytest

from protocol.errors import UsageError
from sflow_ctl.cli.tui.steering import RunSteering
from tests.integration.steering.conftest import effects, report
from tests.support import Run, nothing_left, sflow_ctl, wait_until


def test_a_service_is_restarted_and_its_client_continues(live: Run, place: Path) -> None:
    before, client = live.pid_of("srv"), live.pid_of("cli")
    assert effects(place, "restart", "srv") == ["srv is being stopped, and starts again"]
    assert sflow_ctl("wait", "--for", "ready", "srv", cwd=place).returncode == 0
    wait_until(lambda: live.pid_of("srv") != before, "another process")
    live.wait_for("srv", "ready")
    assert live.pid_of("cli") == client


def test_a_failed_task_starts_again_and_what_was_skipped_waits_for_it(live: Run, place: Path) -> None:
    assert live.states()["after"] == "skipped"
    (place / "fixed").touch()
    assert effects(place, "restart", "bad") == [
        "bad starts again; it was failed",
        "after starts again; it was skipped",
    ]
    live.wait_for("bad", "running")
    assert live.states()["after"] == "waiting"


def test_a_stopped_replica_starts_again(live: Run, place: Path) -> None:
    assert sflow_ctl("stop", "work[2]", cwd=place).returncode == 0
    assert "work_2 starts again; it was cancelled" in effects(place, "restart", "work[2]")
    live.wait_for("work_2", "running")


def test_a_signal_arrives_at_the_program(live: Run, place: Path) -> None:
    assert effects(place, "signal", "srv", "hup") == ["srv gets SIGHUP"]
    log = live.directory / "srv/srv.log"
    wait_until(lambda: "hup\n" in log.read_text(), "the program has got it")
    done = sflow_ctl("signal", "srv", "UP", cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'error[unknown-signal]: "UP" is not a signal' in done.stderr
    done = sflow_ctl("signal", "after", "USR1", cwd=place)
    assert "error[request-refused]: live: after does not run: it is waiting" in done.stderr


def test_a_task_that_an_operator_kills_is_said_to_be_killed_by_that(tmp_path: Path) -> None:
    text = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: t, script: [sleep 600]}]}\n'
    run = Run.start(text, tmp_path, run_id="k")
    try:
        run.wait_for("t", "running")
        assert sflow_ctl("signal", "k", "t", "KILL", cwd=tmp_path).returncode == 0
        run.process.wait()
    finally:
        run.kill()
    shown = sflow_ctl("status", "k", cwd=tmp_path).stdout
    assert "hint:  sflow-ctl signal sent it" in shown
    assert "asks to send SIGKILL to t" in sflow_ctl("events", "k", cwd=tmp_path).stdout


def test_a_paused_run_starts_nothing_and_says_so(live: Run, place: Path) -> None:
    assert report(place, "pause")["text"].startswith("the run is paused: nothing new starts; ")
    assert "paused by" in sflow_ctl("status", "live", cwd=place).stdout
    assert effects(place, "restart", "work_1") == ["work_1 is being stopped, and starts again"]
    live.wait_for("work_1", "queued")
    live.kill_controller()  # another one takes over, and the run is still paused
    assert report(place, "pause")["text"].startswith("the run is paused already")
    assert live.states()["work_1"] == "queued"
    assert report(place, "unpause")["text"] == "tasks start again"
    live.wait_for("work_1", "running")
    assert "paused" not in sflow_ctl("status", "live", cwd=place).stdout


def test_the_full_screen_view_makes_the_same_requests(live: Run) -> None:
    steering = RunSteering(live.directory)
    assert steering.act("signal", ("srv",), "hup") == "srv gets SIGHUP"
    assert steering.act("restart", ("work_0",), "") == "work_0 is being stopped, and starts again"
    assert steering.act("pause", (), "").startswith("the run is paused")
    assert steering.act("unpause", (), "") == "tasks start again"
    assert steering.act("stop", ("work_3",), "") == "work_3 is being stopped"
    with pytest.raises(UsageError, match="after does not run"):
        steering.act("signal", ("after",), "USR1")
    with pytest.raises(UsageError, match="no signal"):
        steering.act("signal", ("srv",), "UP")


def test_a_run_as_a_whole_is_not_restarted(live: Run, place: Path) -> None:
    assert "error[no-tasks]" in sflow_ctl("restart", "live", cwd=place).stderr
    assert "error[no-tasks]" in sflow_ctl("signal", "live", "HUP", cwd=place).stderr
    assert "error[no-tasks]" in sflow_ctl("signal", "HUP", cwd=place).stderr


def test_of_a_run_that_died_nothing_can_be_changed(live: Run, place: Path) -> None:
    live.kill_both()  # the last test of this module: the run is gone
    live.process.wait()
    nothing_left(live)
    for words in (("restart", "srv"), ("signal", "srv", "HUP"), ("pause",), ("unpause", "live")):
        done = sflow_ctl(*words, cwd=place)
        assert (done.returncode, done.stdout) == (3, ""), done.stderr
        assert "error[run-died]: live died" in done.stderr
