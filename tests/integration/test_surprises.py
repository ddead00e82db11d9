"""What surprises people in sflow 0.3.1, and must be right here: each by name, with the workflow that shows it there."""

import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Run, nothing_left, sflow_ctl

HEAD = 'version: "0.1"\n'


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        server.setblocking(False)
        yield server


def accepted(server: socket.socket) -> int:
    """Accept what has connected; return how many did."""
    count = 0
    while True:
        try:
            connection, _ = server.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1


@pytest.mark.parametrize(
    "script",
    [
        "echo READY; exec sleep 300",
        "echo READY; sleep 300",
        "echo READY; (setsid sleep 300 &) ; sleep 300",
        "echo READY; trap '' TERM; while true; do sleep 300; done",
    ],
    ids=["exec", "child", "daemon", "deaf"],
)
def test_surprise_services_do_not_outlive_a_run_without_a_terminal(script: str, tmp_path: Path) -> None:
    workflow = f"""{HEAD}workflow:
  name: service
  tasks:
    - name: server
      stop: {{grace: 1}}
      script: ["{script}"]
      probes: {{readiness: {{log_watch: {{regex_pattern: READY}}, interval: 1}}}}
    - {{name: client, depends_on: [server], script: ["echo done"]}}
"""
    run = Run.start(workflow, tmp_path)
    status, output = run.finish()  # its output is a pipe
    assert status == 0, output
    assert run.states() == {"server": "completed", "client": "completed"}
    nothing_left(run)


def test_surprise_a_mute_endpoint_delays_no_other_task(mute: socket.socket, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{mute.getsockname()[1]}/health"
    chain = "\n".join(
        f"    - {{name: c{number}, script: ['true'], depends_on: [{f'c{number - 1}' if number else ''}]}}"
        for number in range(20)
    )
    workflow = f"""{HEAD}workflow:
  name: mute
  tasks:
    - name: service
      replicas: {{count: 5}}
      script: ["exec sleep 300"]
      probes:
        readiness: {{http_get: {{url: "{url}", owner: any}}, interval: 1, timeout: 0, each_check_timeout: 100}}
        failure: {{http_get: {{url: "{url}?bad", owner: any}}, interval: 1, each_check_timeout: 100}}
{chain}
    - {{name: last, main: true, depends_on: [c19], script: ["echo last"]}}
"""
    run = Run.start(workflow, tmp_path)
    status, output = run.finish()  # PATIENCE_S is less than one check takes
    assert status == 0, output
    states = run.states()
    assert {states[f"c{number}"] for number in range(20)} == {"completed"}
    assert "ready" not in {one.transition.new.value for one in run.entries() if one.transition is not None}
    assert accepted(mute) >= 5, "the endpoint was asked meanwhile"
    nothing_left(run)


def test_surprise_a_deadline_comes_in_time_beside_a_mute_endpoint(
    mute: socket.socket, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
    workflow = f"""{HEAD}workflow:
  name: mute
  tasks:
    - name: service
      script: ["exec sleep 300"]
      probes: {{readiness: {{http_get: {{url: "{url}", owner: any}}, timeout: 1, each_check_timeout: 100}}}}
    - {{name: client, depends_on: [service], script: ["true"]}}
"""
    run = Run.start(workflow, tmp_path)
    status, output = run.finish()
    assert status == 1
    assert "not ready within its deadline of 1 s" in output
    assert run.states()["service"] == "timeout"


def test_surprise_retries_keep_the_log_of_every_attempt(tmp_path: Path) -> None:
    workflow = f"""{HEAD}workflow:
  name: retries
  tasks:
    - name: t
      retries: {{count: 2, interval: 0}}
      script: ['echo attempt $SFLOW_ATTEMPT; [ $SFLOW_ATTEMPT = 3 ]']
"""
    run = Run.start(workflow, tmp_path)
    assert run.finish()[0] == 0
    logs = {path.name: path.read_text() for path in (run.directory / "t").glob("*.log")}
    assert logs == {
        "t.attempt-1.log": "attempt 1\n",
        "t.attempt-2.log": "attempt 2\n",
        "t.log": "attempt 3\n",
    }


def test_surprise_swept_values_are_right_in_lines_with_task(tmp_path: Path) -> None:
    workflow = f"""{HEAD}variables:
  C: {{value: 4, domain: [1, 4]}}
workflow:
  name: sweep
  tasks:
    - name: t
      replicas: {{variables: [C]}}
      script:
        - echo "plain=${{{{ variables.C }}}}"
        - echo "named my_task.py --c ${{{{ variables.C }}}} ${{{{ C }}}}"
        - echo "used ${{{{ task.t[0].nodes | length }}}} ${{{{ variables.C }}}}"
      probes: {{failure: {{exec: {{command: "test -e bad.${{{{ variables.C }}}} -a -e task.x"}}}}}}
"""
    (tmp_path / "w.yaml").write_text(workflow)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for value in ("1", "4"):
        log = tmp_path / "sflow_output" / "r" / f"t_{value}" / f"t_{value}.log"
        assert log.read_text().splitlines() == [
            f"plain={value}",
            f"named my_task.py --c {value} {value}",
            f"used 1 {value}",
        ]
    plan = sflow_ctl("plan", "w.yaml", cwd=tmp_path).stdout
    assert re.findall(r"bad\.(\d)", plan) == ["1", "4"]


def test_surprise_empty_lines_stay_in_logs_and_output_is_not_buffered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    workflow = f"""{HEAD}workflow:
  name: lines
  tasks:
    - name: t
      script: ["printf 'a\\n\\nb\\n'", "{sys.executable} -S -c 'print(1); import os; os._exit(0)'"]
"""
    run = Run.start(workflow, tmp_path)
    status, output = run.finish()
    assert status == 0, output
    assert (run.directory / "t" / "t.log").read_text() == "a\n\nb\n1\n"
