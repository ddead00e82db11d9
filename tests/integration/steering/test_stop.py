"""`stop`, and the ways of a request: by the socket, by a file, to another controller, to a run that is no longer there."""

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from protocol.errors import RunDirectoryError
from sflow_ctl.core.events import OperatorRequest
from sflow_ctl.core.requests import StopTasks
from sflow_ctl.runtime.operating import client
from sflow_ctl.runtime.record.directory import OperatorFacts
from sflow_ctl.runtime.record.reader import RunReader
from tests.integration.steering.conftest import effects, report
from tests.support import Run, command, nothing_left, sflow_ctl, wait_until


def test_replicas_are_named_in_every_way(live: Run, place: Path) -> None:
    assert effects(place, "stop", "work_0") == ["work_0 is being stopped"]
    assert live.states()["work_0"] == "cancelled"  # it waits for the end
    assert effects(place, "stop", "live", "work[1]") == ["work_1 is being stopped"]
    assert effects(place, "stop", "wo*_[12]") == [
        "work_1 has ended already: cancelled",
        "work_2 is being stopped",
    ]
    live.wait_for("later", "skipped")
    shown = sflow_ctl("status", cwd=place).stdout
    assert "stopped" in shown


def test_a_service_takes_its_clients_with_it(live: Run, place: Path) -> None:
    done = sflow_ctl("stop", "srv", "-v", cwd=place)
    assert (done.returncode, done.stdout) == (0, "srv is being stopped\n")
    assert "over the controller's socket" in done.stderr
    live.wait_for("cli", "cancelled")
    assert (live.directory / "srv/srv.log").read_text().endswith("bye\n")


def test_a_kill_does_not_wait_for_the_grace(live: Run, place: Path) -> None:
    assert effects(place, "stop", "deaf", "--no-wait") == ["deaf is being stopped"]
    assert live.states()["deaf"] == "stopping"
    assert effects(place, "stop", "deaf", "--kill") == ["deaf is being killed"]
    assert live.states()["deaf"] == "cancelled"


def test_what_is_not_there_is_said(live: Run, place: Path) -> None:
    done = sflow_ctl("stop", "wrk_3", cwd=place)
    assert done.returncode == 2
    assert 'error[no-such-run]: "wrk_3" is neither a run nor a task of live' in done.stderr
    done = sflow_ctl("stop", "live", "wrk_3", cwd=place)
    assert 'did you mean "work_3"?' in done.stderr
    done = sflow_ctl("stop", "live", "work[9]", cwd=place)
    assert "hint:  work has 4 replicas, work[0] to work[3]" in done.stderr


def test_without_the_controllers_socket_a_file_is_taken(live: Run, place: Path) -> None:
    connection = live.directory / ".sflow/connection.json"
    hidden = connection.rename(connection.with_suffix(".hidden"))
    try:
        shown = report(place, "stop", live.directory.as_posix(), "work_3")
    finally:
        hidden.rename(connection)
    assert shown["way"] == "file"
    assert live.states()["work_3"] == "cancelled"
    assert list((live.directory / ".sflow/requests").iterdir()) == []
    requests = [entry.request for entry in live.entries() if entry.request is not None]
    assert requests[-1].id == shown["request"]
    assert requests[-1].by == client.asking_person()


def test_only_the_operators_key_may_change_a_run(live: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    key = live.directory / ".sflow/operator.json"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    reader = RunReader(live.directory)
    facts = reader.connection()
    assert facts is not None
    viewer = OperatorFacts(secret=facts.viewer_secret)
    monkeypatch.setattr(client, "operator_key", lambda _reader: viewer)
    replied = client.ask(reader, StopTasks(tasks=("after",)))
    assert replied.answer.error == "this key may look at the run, and not change it"
    monkeypatch.undo()
    key.chmod(0o640)
    try:
        with pytest.raises(RunDirectoryError, match="can be read by other users"):
            client.ask(reader, StopTasks(tasks=("after",)))
    finally:
        key.chmod(0o600)


def test_a_request_survives_the_controller(live: Run, place: Path) -> None:
    os.kill(live.controller, signal.SIGSTOP)
    asking = subprocess.Popen(
        command("stop", "work_3", "after"),
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    requests = live.directory / ".sflow/requests"
    wait_until(lambda: list(requests.iterdir()), "the request is left as a file, too")
    first = live.kill_controller()
    output, errors = asking.communicate(timeout=60)
    assert asking.returncode == 0, errors
    assert output.splitlines() == ["work_3 has ended already: cancelled", "after has ended already: skipped"]
    assert live.controller != first
    events = [entry.event for entry in live.entries()]
    asked = [one.id for one in events if isinstance(one, OperatorRequest)]
    answered = [entry.request for entry in live.entries() if entry.request is not None]
    assert len([one for one in answered if one.id == asked[-1]]) == 1  # however often it has arrived


def test_a_run_that_is_stopped_ends_as_by_ctrl_c(place: Path, live: Run) -> None:
    other = Run.start(
        'version: "0.1"\nworkflow: {name: o, tasks: [{name: t, script: ["sleep 600"]}]}',
        place,
        run_id="other",
    )
    try:
        other.wait_for("t", "running")
        done = sflow_ctl("stop", cwd=place)
        assert done.returncode == 2
        assert "error[ambiguous-run]: 2 runs are live: live, other" in done.stderr
        done = sflow_ctl("stop", "other", cwd=place)
        assert (done.returncode, done.stdout) == (0, "stopping the run: 1 live task\n")
        status, output = other.finish()
        assert status == 130
        assert f"{client.asking_person()} asks to stop the run" in output
    finally:
        other.kill()
    for words in (("other",), ("other", "t")):
        done = sflow_ctl("stop", *words, cwd=place)
        assert (done.returncode, done.stdout) == (2, "")
        assert "error[run-has-ended]: the run other has already ended" in done.stderr


def test_a_run_that_died_is_said_to_have_died(place: Path, live: Run) -> None:
    live.kill_both()  # the last test of this module: the run is gone
    live.process.wait()
    nothing_left(live)
    done = sflow_ctl("stop", "live", "work_3", cwd=place)
    assert (done.returncode, done.stdout) == (3, "")
    assert "error[run-died]: live died: controller pid" in done.stderr
    assert "sflow-ctl run --resume live" in done.stderr
