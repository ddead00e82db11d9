"""OwnerScope answer makes a task ready: other programs that listen where it should, in and outside of the run."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.messages.checks import HttpCheck, Owner, Probe, TcpCheck
from tests.integration.agent.fake_controller import FakeController, rank_id, spec
from tests.integration.agent.test_checks import is_ready, ok, sleeper, waits_for
from tests.integration.agent.test_logs_and_probes import free_port, listener, python, triggered
from tests.integration.agent.web import serving

SERVER = (
    "import http.server, os, sys, time\n"
    "while os.path.exists(sys.argv[2]): time.sleep(0.01)\n"
    "http.server.HTTPServer.allow_reuse_address = True\n"
    "http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')\n"
)
"""Listens once a file is gone."""


def asks(port: int, owner: Owner, interval_s: float = 0.1) -> Probe:
    check = HttpCheck(method="GET", url=f"http://127.0.0.1:{port}/", owner=owner)
    return Probe(kind="readiness", checks=(check,), interval_s=interval_s)


def server(port: int, until: str = "/nowhere") -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", SERVER, str(port), until)


@contextlib.contextmanager
def outside(port: int, **markers: str) -> Iterator[int]:
    """A listener that no agent has started, with these variables."""
    program = (sys.executable, "-S", "-c", listener(port))
    with subprocess.Popen(program, env={**os.environ, **markers}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("owner", ["task", "run"])
def test_f23_the_answer_of_an_old_server_makes_no_task_ready(
    controller: FakeController, owner: Owner
) -> None:
    with serving({"/": ok}) as old:
        port = int(old.server_address[1])
        sleeper(controller, "a", asks(port, owner))
        said = waits_for(controller, "a", "answered")
        assert said == (
            f"it was answered on port {port} by process {os.getpid()} {process_name()}, which does not belong to this {owner} "
            "(`owner: any` would accept it)"
        )
        controller.until(lambda: old.count("/") >= 3, "it is asked again")
        assert not is_ready(controller, "a")
        sleeper(controller, "b", asks(port, "any"))
        triggered(controller, "b")


def process_name() -> str:
    return Path("/proc/self/comm").read_text().strip()


def test_f23_the_own_server_counts_once_it_has_taken_the_port_over(
    controller: FakeController, tmp_path: Path
) -> None:
    until = tmp_path / "old"
    with serving({"/": ok}) as old:
        port = int(old.server_address[1])
        until.touch()
        argv = server(port, until=str(until))
        controller.spawn(spec("a", *argv, probes=(asks(port, "task", interval_s=60.0),)))
        waits_for(controller, "a", "port")
        assert not is_ready(controller, "a")
    until.unlink()
    # Long before the interval is over: its bind is the sign.
    assert triggered(controller, "a").detail == "HTTP 200 OK"


def test_a_url_of_another_task_counts_unless_it_must_be_the_tasks_own(controller: FakeController) -> None:
    port = free_port()
    controller.spawn(spec("b", *server(port)))
    sleeper(controller, "run", asks(port, "run"))
    sleeper(controller, "task", asks(port, "task"))
    triggered(controller, "run")
    said = waits_for(controller, "task", "answered")
    assert "by b#1, process " in said
    assert "(`owner: run` would accept it)" in said
    assert not is_ready(controller, "task")


def test_a_port_of_another_task_counts_where_the_run_is_asked_for(controller: FakeController) -> None:
    port = free_port()
    controller.spawn(python("b", listener(port)))
    sleeper(controller, "run", Probe(kind="readiness", checks=(TcpCheck(port=port, owner="run"),)))
    sleeper(controller, "task", Probe(kind="readiness", checks=(TcpCheck(port=port),)))
    assert triggered(controller, "run").detail == f"port {port} is listening"
    assert f"port {port} is taken by b#1, process " in waits_for(controller, "task", "taken")


def test_a_port_of_any_process_of_the_attempt_counts(controller: FakeController) -> None:
    port = free_port()
    probe = Probe(kind="readiness", checks=(TcpCheck(port=port),))
    second = spec("a", sys.executable, "-S", "-c", listener(port), rank=1)
    controller.spawn(spec("a", "sleep", "600", probes=(probe,)), second)
    assert triggered(controller, "a").attempt == rank_id("a").attempt


def test_a_job_steps_process_is_the_tasks_although_it_is_not_below_the_agent(
    controller: FakeController,
) -> None:
    # Slurm's own daemon starts it; what srun was given as environment is all that says whose it is.
    port, other = free_port(), free_port()
    run = {"SFLOW_RUN_MARKER": controller.marker}
    with outside(port, **run, SFLOW_ATTEMPT_ID="a#1"), outside(other, **run, SFLOW_ATTEMPT_ID="b#1"):
        sleeper(controller, "a", Probe(kind="readiness", checks=(TcpCheck(port=port),)))
        triggered(controller, "a")
        sleeper(controller, "c", Probe(kind="readiness", checks=(TcpCheck(port=other),)))
        assert "is taken by b#1, process " in waits_for(controller, "c", "taken")


def test_a_failure_belongs_to_its_own_rank(controller: FakeController) -> None:
    with serving({"/": ok}) as old:
        port = int(old.server_address[1])
        check = HttpCheck(method="GET", url=f"http://127.0.0.1:{port}/", owner="run")
        failure = Probe(kind="failure", checks=(check,), interval_s=0.05)
        sleeper(controller, "a", failure)
        controller.until(lambda: old.count("/") >= 3, "it is asked")
        assert not is_ready(controller, "a")
