"""Services that are asked whether they are ready, in whole runs."""

import sys
import time
from pathlib import Path

import msgspec
import pytest

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
        assert lines_with(output, "task server was", text)
        summary = run.summary()
        server, client = summary.tasks
        assert (server.state, server.attempts, client.state) == ("timeout", 2, "cancelled")
        assert summary.cause is not None
        assert summary.cause.reason is not None
        assert summary.cause.reason.word == "not_ready"
        nothing_left(run)
    finally:
        run.kill()


def test_a_list_of_probes_ends_at_the_deadline_of_the_entry_that_is_late(tmp_path: Path) -> None:
    listed = (
        "[{exec: {command: 'test -e up'}, deadline: 1m, interval: 0.2}, "
        "{all: [{log_watch: {match_pattern: never}}], deadline: 1.5}, {tcp_port: {port: 1}, timeout: 0}]"
    )
    run = Run.start(workflow(listed, script="touch up; exec sleep 600"), tmp_path)
    try:
        status, output = run.finish()
        assert status == 1
        assert lines_with(
            output, "not ready within the deadline of readiness probe 2 of 3, 1.5 s", "1 of 3 probes"
        )
        nothing_left(run)
    finally:
        run.kill()


def test_a_line_in_a_list_may_come_from_any_rank_of_a_gang(tmp_path: Path) -> None:
    listed = "[{log_watch: {match_pattern: up}}, {exec: {command: 'true'}}]"
    text = workflow(listed, script="[ $SLURM_PROCID = 2 ] && echo up; exec sleep 600")
    text = text.replace("script: ['[", "operator: three\n      script: ['[", 1)
    backends = (
        "backends: {here: {type: local, nodes: 3}}\noperators: {three: {type: srun, ntasks_per_node: 1}}\n"
    )
    run = Run.start(text.replace("workflow:", f"{backends}workflow:", 1), tmp_path)
    try:
        status, output = run.finish()
        assert status == 0, output
        assert "client has run" in output
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


LOADER = """
version: "0.1"
workflow:
  name: loader
  tasks:
    - name: load_image
      script: ["echo Image Loaded", "sleep {sleep}"]
      probes: {{readiness: {{log_watch: {{match_pattern: "Image Loaded"}}, timeout: 60}}}}
    - name: etcd_server
      script: ["exec sleep 600"]
      depends_on: [load_image]
      kind: service
    - name: benchmark
      script: ["until [ -e {done} ]; do sleep 0.01; done"]
      depends_on: [load_image, etcd_server]
    - name: witness
      script: ["touch {done}"]
      depends_on: [{{task: load_image, until: completed}}]
"""


@pytest.mark.parametrize("sleep", ["0", "0.5"], ids=["ends at once", "sleeps first"])
def test_clusters_f1_recipes_whose_loader_ends_while_others_run(tmp_path: Path, sleep: str) -> None:
    """The shapes of slurm_infmax_v1_ds_r1 and, with its `sleep 3600` shortened, of slurm_sglang_server_client."""
    run = Run.start(LOADER.format(sleep=sleep, done=tmp_path / "done"), tmp_path)
    try:
        status, output = run.finish()
        assert status == 0, output
        states = {task.name: task.state for task in run.summary().tasks}
        assert set(states.values()) == {"completed"}, states
    finally:
        run.kill()


def test_clusters_f1_a_server_that_has_listened_must_stay(tmp_path: Path) -> None:
    """It is ready by its line, and nothing but its socket says what it is."""
    (tmp_path / "server.py").write_text(
        "import pathlib, socket, sys, time\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print('up', flush=True)\n"
        "while not pathlib.Path('client').exists(): time.sleep(0.01)\n"
        "time.sleep(1.2)\n"
    )
    client = "touch client; sleep 600"
    text = workflow("{log_watch: {match_pattern: up}}", script=f"exec {sys.executable} server.py")
    run = Run.start(text.replace("echo client has run", client), tmp_path)
    try:
        status, output = run.finish()
        assert status == 1, output
        assert "server failed: exit status 0, while client still needs it" in output
    finally:
        run.kill()


@pytest.mark.parametrize(
    ("script", "probe", "expected"),
    [
        ("echo starting", "{log_watch: {match_pattern: listening}, interval: 1}", ("failed", "cancelled")),
        ("echo listening", "{log_watch: {match_pattern: listening}, delay: 20, interval: 30}", ("completed", "completed")),
        ("printf listening", "{log_watch: {regex_pattern: 're:^listening$'}}", ("completed", "completed")),
        ("touch there", "{exec: {command: [test, -e, there]}, delay: 20, interval: 30}", ("completed", "completed")),
        ("true", "{exec: {command: [test, -e, there]}, delay: 20, interval: 30}", ("failed", "cancelled")),
        ("true", "{tcp_port: {port: PORT}}", ("failed", "cancelled")),
        ("true", "{http_get: {url: 'http://127.0.0.1:PORT/'}, delay: 20}", ("failed", "cancelled")),
    ],
)  # fmt: skip
def test_clusters_f1_an_exit_before_readiness_gets_one_last_look(
    tmp_path: Path, script: str, probe: str, expected: tuple[str, str]
) -> None:
    """As sflow 0.3.1 does it."""
    run = Run.start(workflow(probe.replace("PORT", str(free_port())), script=script), tmp_path)
    try:
        status, output = run.finish()
        assert (status, *(task.state for task in run.summary().tasks)) == (expected[0] == "failed", *expected)
        assert ("exited with status 0 before it was ready" in output) is bool(status)
    finally:
        run.kill()
