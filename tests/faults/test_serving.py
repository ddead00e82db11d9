"""Ports and readiness in whole runs: what listens where it should not, comes late, flaps, or leaves something behind."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.agent.test_logs_and_probes import free_port
from tests.support import Run, is_alive, lines_with, nothing_left, sflow_ctl, wait_until

HEAD = 'version: "0.1"\nworkflow:\n  name: serving\n  tasks:\n'
SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *a): pass
class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True  # connections of a while ago are no listener
print("binds", flush=True)
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def server(tmp_path: Path) -> str:
    """The command of an HTTP server; its port follows."""
    (tmp_path / "server.py").write_text(SERVER)
    return f"exec {sys.executable} -S {tmp_path / 'server.py'}"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Run]]:
    """Runs that a test starts; remaining processes are killed by pid."""
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.kill()


def start(started: list[Run], tmp_path: Path, tasks: str, *options: str) -> Run:
    started.append(Run.start(HEAD + tasks, tmp_path, *options))
    return started[-1]


@contextlib.contextmanager
def old_server(tmp_path: Path, port: int) -> "Iterator[subprocess.Popen[bytes]]":
    """Start the server of an earlier job on the node."""

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    program = [sys.executable, "-S", str(tmp_path / "server.py"), str(port)]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL) as old:
        try:
            wait_until(answers, "the old server")
            yield old
        finally:
            old.kill()


# ---------------------------------------------------------------------- F20, F23: somebody else's port


def test_f20_a_fixed_port_that_is_taken_is_named_with_its_owner(
    started: list[Run], tmp_path: Path, server: str
) -> None:
    # A server that goes on trying (most do not): it never gets its port, and its probe says who has it.
    port = free_port()
    with old_server(tmp_path, port) as old:
        tasks = f"""
    - name: a
      script: ["until {server.removeprefix("exec ")} {port} 2>/dev/null; do sleep 0.1; done"]
      probes: {{readiness: {{tcp_port: {{port: {port}}}, deadline: 2s}}}}
"""
        run = start(started, tmp_path, tasks)
        status, output = run.finish()
        assert status == 1
        text = f"not ready within its deadline of 2 s: port {port} is taken by process {old.pid} python"
        assert lines_with(output, "task a", text, "which does not belong to this task"), output
        nothing_left(run)


def test_f20_a_leased_port_is_another_one(started: list[Run], tmp_path: Path, server: str) -> None:
    tasks = f"""
    - name: a
      ports: {{http: 1}}
      script: ["{server} $SFLOW_PORT_HTTP"]
      probes: {{readiness: {{http_get: {{url: "http://127.0.0.1:${{{{ port.http }}}}/"}}}}}}
    - {{name: client, depends_on: [a], script: ["echo ${{{{ task.a.port.http }}}}"]}}
"""
    first = start(started, tmp_path, tasks)
    assert first.finish()[0] == 0
    port = int((first.directory / "client" / "client.log").read_text())
    with old_server(tmp_path, port):
        started.append(Run.start(HEAD + tasks, tmp_path, run_id="second"))
        assert started[-1].finish()[0] == 0
        assert int((started[-1].directory / "client" / "client.log").read_text()) != port


def test_f23_an_old_server_that_answers_makes_no_task_ready(
    started: list[Run], tmp_path: Path, server: str
) -> None:
    # The task's own server takes minutes to load in real life; meanwhile the old one answers well.
    port = free_port()
    with old_server(tmp_path, port) as old:
        tasks = f"""
    - name: a
      script: ["until test -e {tmp_path}/go; do sleep 0.02; done; {server} {port}"]
      probes: {{readiness: {{http_get: {{url: "http://127.0.0.1:{port}/"}}}}}}
    - {{name: client, depends_on: [a], script: ["true"]}}
"""
        run = start(started, tmp_path, tasks)
        run.wait_for("a", "running")
        text = f"a is not ready: it was answered on port {port} by process {old.pid} python"
        wait_until(lambda: text in sflow_ctl("status", "r", cwd=tmp_path).stdout, text)
        assert run.states()["a"] == "running"
        old.kill()
        old.wait()
        (tmp_path / "go").touch()
        status, output = run.finish()
        assert status == 0, output
        nothing_left(run)


# ---------------------------------------------------------------------- F26: ready, not ready, ready again


def test_f26_a_task_that_becomes_startable_while_a_service_restarts_waits_for_it(
    started: list[Run], tmp_path: Path
) -> None:
    tasks = f"""
    - name: service
      script:
        - "echo up; if [ $SFLOW_ATTEMPT = 2 ]; then exec sleep 600; fi"
        - "until test -e {tmp_path}/crash; do sleep 0.02; done; exit 9"
      restart: {{max: 1, backoff: 1.5}}
      probes: {{readiness: {{log_watch: {{match_pattern: up}}}}}}
    - name: early
      depends_on: [service]
      script: ["touch {tmp_path}/crash; until test -e {tmp_path}/late; do sleep 0.02; done"]
    - name: between
      script: ["until test -e {tmp_path}/between; do sleep 0.02; done"]
    - name: late
      depends_on: [service, between]
      script: ["echo $SFLOW_TASK_NAME; touch {tmp_path}/late"]
"""
    run = start(started, tmp_path, tasks)
    run.wait_for("early", "running")
    wait_until(lambda: run.states().get("service") not in ("ready", None), "the crash")
    (tmp_path / "between").touch()
    status, output = run.finish()
    assert status == 0, output
    order = [f"{e.transition.task} {e.transition.new}" for e in run.entries() if e.transition is not None]
    assert order.count("service ready") == 2
    second = len(order) - 1 - order[::-1].index("service ready")
    assert order.index("between completed") < second < order.index("late running")
    nothing_left(run)


# ---------------------------------------------------------------------- F29, F30: what a task leaves behind


def test_f29_a_deaf_daemon_of_a_daemon_does_not_outlive_the_run(started: list[Run], tmp_path: Path) -> None:
    daemon = (
        "import os, signal, time\n"
        "for _ in range(2):\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
        "for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(n, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
        "while True: time.sleep(600)\n"
    )
    (tmp_path / "daemon.py").write_text(daemon)
    tasks = f"""
    - name: service
      script: ["{sys.executable} -S {tmp_path}/daemon.py; until test -s {tmp_path}/pid; do sleep 0.02; done; echo up; sleep 600"]
      probes: {{readiness: {{log_watch: {{match_pattern: up}}}}}}
    - {{name: client, depends_on: [service], script: ["true"]}}
"""
    run = start(started, tmp_path, tasks)
    status, output = run.finish()
    assert status == 0, output
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert run.summary().survivors == ()
    nothing_left(run)


def test_f30_a_grandchild_with_the_output_open_holds_up_no_dependant(
    started: list[Run], tmp_path: Path
) -> None:
    # It holds what the task wrote to, and is deaf: the task is over all the same, and what comes next begins.
    tasks = f"""
    - name: a
      script: ["(trap '' TERM; setsid sh -c 'trap \\\"\\\" TERM; echo left; touch {tmp_path}/left; sleep 600; sleep 600') &",
               "until test -e {tmp_path}/left; do sleep 0.02; done; echo over"]
    - {{name: next, depends_on: [a], script: ["echo next"]}}
"""
    run = start(started, tmp_path, tasks, "--log-spool", "spool")
    status, output = run.finish()
    assert status == 0, output
    assert lines_with(output, "[a] left")
    assert lines_with(output, "[a] over")
    assert lines_with(output, "[next] next")
    order = [f"{e.transition.task} {e.transition.new}" for e in run.entries() if e.transition is not None]
    assert order.index("a completed") < order.index("next running")
    nothing_left(run)
