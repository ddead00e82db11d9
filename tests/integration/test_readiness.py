"""Services that are asked whether they are ready, in whole runs."""

import sys
import time
from pathlib import Path

import msgspec

from tests.integration.agent.test_logs_and_probes import free_port
from tests.integration.agent.web import Handler, serving
from tests.support import Run, lines_with, nothing_left, sflow_ctl, wait_until


def workflow(probe: str, *, script: str = "exec sleep 600", retries: str = "") -> str:
    return f"""
version: "0.1"
workflow:
  name: readiness
  tasks:
    - name: server
      script: ['{script}']
      probes: {{readiness: {probe}}}
      {retries}
    - name: client
      script: ["echo client has run"]
      depends_on: [server]
"""


def test_f25_a_client_starts_when_enough_instances_are_there(tmp_path: Path) -> None:
    instances: list[int] = []

    def health(handler: Handler) -> None:
        handler.say(200, msgspec.json.encode({"instances": instances}))

    with serving({"/health": health}) as server:
        probe = f'{{http_get: {{url: "{server.url}/health", json: "len(instances) >= 2", owner: any}}}}'
        run = Run.start(workflow(probe), tmp_path)
        try:
            run.wait_for("server", "running")
            instances.append(1)

            def said() -> str:
                return sflow_ctl("status", "r", cwd=tmp_path).stdout

            text = "server is not ready: HTTP 200 OK, but len(instances) is 1 (len(instances) >= 2)"
            wait_until(lambda: text in said(), text)
            as_json = msgspec.json.decode(sflow_ctl("status", "r", "--json", cwd=tmp_path).stdout)
            assert as_json["tasks"][0]["waits_for"] == text.partition(": ")[2]
            instances.append(2)
            status, output = run.finish()
            assert status == 0, output
            assert "not ready" not in said()
            nothing_left(run)
        finally:
            run.kill()


def test_a_missed_deadline_names_the_unmet_condition(tmp_path: Path) -> None:
    port = free_port()
    probe = f'{{http_get: {{url: "http://127.0.0.1:{port}/"}}, deadline: 1.5}}'
    run = Run.start(workflow(probe, retries="retries: {count: 1, interval: 0}"), tmp_path)
    try:
        status, output = run.finish()
        assert status == 1
        text = f"not ready within its deadline of 1.5 s: 127.0.0.1:{port}: connection refused"
        assert lines_with(output, "the run failed: task server was", text)
        summary = run.summary()
        server, client = summary.tasks
        assert (server.state, server.attempts, client.state) == ("timeout", 2, "cancelled")
        assert summary.cause is not None
        assert summary.cause.reason is not None
        assert summary.cause.reason.word == "not_ready"
        nothing_left(run)
    finally:
        run.kill()


def test_f24_a_process_that_dies_while_it_is_asked_fails_at_once(tmp_path: Path) -> None:
    # The probe hangs in a program of its own when the server dies.
    probe = '{exec: {command: "sleep 600"}}'
    script = f'{sys.executable} -S -c "import time; time.sleep(1); raise SystemExit(7)"'
    run = Run.start(workflow(probe, script=script), tmp_path)
    try:
        run.wait_for("server", "running")
        since = time.monotonic()
        status, output = run.finish()
        assert (status, run.summary().tasks[0].exit_code) == (1, 7), output
        assert time.monotonic() - since < 10
        nothing_left(run)
    finally:
        run.kill()
