"""Few descriptors for a controller, and strangers who take them: N1, R19."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import LaunchError
from sflow_ctl.runtime import descriptors
from sflow_ctl.runtime.files.settings_files import SITE_VARIABLE
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.transport.network import NetworkTransport
from tests.support import controller_of, wait_until

STRANGERS = 200
WORKFLOW = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: a
      resources: {nodes: {count: 1}}
      script: ['echo begun > $SFLOW_WORKSPACE_DIR/begun; until [ -e go ]; do sleep 0.1; done; echo rate = 5']
      outputs: [{pattern: "rate = {rate:d}"}]
    - name: b
      depends_on: [a]
      resources: {nodes: {count: 1}}
      script: ['echo twice ${{ [task.a.outputs.rate] | sum * 2 }}; ulimit -Sn']
"""


def run_with_few(directory: Path, limit: str, *options: str) -> "subprocess.Popen[str]":
    """A run whose controller may have so many files open."""
    (directory / "w.yaml").write_text(WORKFLOW)
    (directory / "site.yaml").touch()
    command = [sys.executable, "-m", "sflow_ctl", "run", "w.yaml", "--run-id", "r", *options]
    return subprocess.Popen(
        ["bash", "-c", f'ulimit {limit}; exec "$@"', "bash", *command],
        cwd=directory,
        env={**os.environ, SITE_VARIABLE: str(directory / "site.yaml")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ports_of(pid: int) -> list[int]:
    """Those that a process listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes]


def cpu_s(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_idle(pid: int) -> bool:
    """Look for half a second."""
    used = cpu_s(pid)
    time.sleep(0.5)
    return cpu_s(pid) - used < 0.03


@pytest.fixture
def strangers() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for one in made:
        one.close()


@pytest.mark.parametrize("agent_link", ["auto", "network"])
@pytest.mark.parametrize("said", [b"", b"\xff", b"GET / HTTP/1.0\r\n\r\n"], ids=["silent", "a byte", "http"])
def test_n1_strangers_connections_cost_them_and_not_the_run(
    tmp_path: Path, strangers: list[socket.socket], said: bytes, agent_link: str
) -> None:
    (tmp_path / "site.yaml").write_text(f"agent_link: {agent_link}\n")
    process = run_with_few(tmp_path, "-Sn 128 -Hn 128")
    wait_until(lambda: (tmp_path / "begun").exists() or process.poll() is not None, "the task runs")
    wait_until(lambda: is_idle(controller_of(process.pid)), "the run has settled")
    controller = controller_of(process.pid)
    ports = ports_of(controller)
    assert len(ports) == (1 if agent_link == "auto" else 3), "one is for viewers"
    used = cpu_s(controller)
    for number in range(STRANGERS):
        one = socket.socket()
        strangers.append(one)
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", ports[number % len(ports)]))
    for one in strangers:
        with contextlib.suppress(OSError):
            one.send(said)
    until = time.monotonic() + 4.0
    wait_until(lambda: time.monotonic() > until, "the strangers have been there for a while")
    assert process.poll() is None, process.communicate()
    assert cpu_s(controller) - used < 2.0
    (tmp_path / "go").touch()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert (tmp_path / "sflow_output" / "r" / "b" / "b.log").read_text() == "twice 10\n128\n"
    summary = json.loads((tmp_path / "sflow_output" / "r" / ".sflow/summary.json").read_text())
    assert summary["outcome"] == "completed"


def test_r19_a_controller_uses_its_hard_limit_and_tasks_get_the_callers(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("the hard limit is too low here")
    (tmp_path / "go").touch()
    process = run_with_few(tmp_path, "-Sn 64", "--nodes", "12")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert (tmp_path / "sflow_output" / "r" / "b" / "b.log").read_text().splitlines()[-1] == "64"


def test_r19_a_limit_that_is_too_low_is_named(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    process = run_with_few(tmp_path, "-Sn 64 -Hn 64", "--nodes", "24")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 3, output
    assert "ulimit -n" in output
    assert "bug in sflow-ctl" not in output


@pytest.mark.parametrize("limit", [8, 12, 16, 24, 32, 40])
def test_r19_a_limit_that_is_too_low_for_the_controller_is_no_bug(tmp_path: Path, limit: int) -> None:
    (tmp_path / "go").touch()
    process = run_with_few(tmp_path, f"-Sn {limit} -Hn {limit}")
    output, _ = process.communicate(timeout=120)
    assert process.returncode in (0, 3), output
    assert "bug in sflow-ctl" not in output
    assert process.returncode == 0 or "Too many open files" in output or "ulimit -n" in output, output


def test_n1_a_hard_limit_too_low_for_the_nodes_is_said_before_agents_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(descriptors, "limit", lambda: 1024)
    keys = RunKeys.make(500)
    with pytest.raises(LaunchError) as caught:
        NetworkTransport(keys, ("127.0.0.1",))
    assert "500 agents need 1032 open files in the controller, and it may have 1024" in str(caught.value)
    assert "ulimit -Hn" in str(caught.value)
    monkeypatch.setattr(descriptors, "limit", lambda: 1032)
    NetworkTransport(keys, ("127.0.0.1",)).close()
