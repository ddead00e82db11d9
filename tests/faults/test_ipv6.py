"""A machine whose only address is an IPv6 one: the whole way from agents to URLs, F14. Needs a network namespace of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.text.urls import split_url
from tests.faults.fake_slurm import FakeSlurm
from tests.support import PATIENCE_S, lines_with

ADDRESS = "fd00:7::1"
WITHOUT_IPV4 = f"""
ip link set lo up
ip address del 127.0.0.1/8 dev lo
ip link add cable type veth peer name other
ip address add {ADDRESS}/64 dev cable nodad
ip link set cable up
ip link set other up
"""
SERVER = """
import http.server, socket, sys
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6
Server(("ADDRESS", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
TASKS = """
    - name: http
      operator: one
      script: ["exec python3 server.py 8000"]
      probes: {readiness: {http_get: {url: "http://${{ backends.pool.nodes[0].ip_address }}:8000/"}, interval: 0.1}}
    - name: tcp
      operator: one
      depends_on: [http]
      script: ["exec python3 server.py 8001"]
      probes: {readiness: {tcp_port: {port: 8001, host: "ADDRESS"}, interval: 0.1}}
    - name: look
      operator: one
      depends_on: [tcp]
      script:
        - echo ${{ backends.pool.nodes[0].ip_address }}
        - SFLOW_CTL status "$SFLOW_WORKFLOW_OUTPUT_DIR"
"""


def in_namespace(script: str, cwd: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Runs a shell script where nothing but `ADDRESS` and `::1` is an address."""
    return subprocess.run(
        ["unshare", "--net", "--map-root-user", "sh", "-ec", f"{WITHOUT_IPV4}\n{script}"],
        cwd=cwd, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def test_f14_a_run_over_nothing_but_ipv6(tmp_path: Path) -> None:
    probe = in_namespace("true", tmp_path, {})
    if probe.returncode != 0:
        pytest.skip(f"no network namespace without IPv4 here: {probe.stderr.strip()}")
    slurm = FakeSlurm(tmp_path)
    sflow_ctl = f"{sys.executable} -m sflow_ctl"
    (tmp_path / "server.py").write_text(SERVER.replace("ADDRESS", ADDRESS))
    tasks = TASKS.replace("ADDRESS", ADDRESS).replace("SFLOW_CTL", sflow_ctl)
    (tmp_path / "r.yaml").write_text(slurm.workflow(tasks))
    done = in_namespace(f"exec {sflow_ctl} run r.yaml --run-id r", tmp_path, slurm.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "sflow_output" / "r"
    said = (run / "sflow.log").read_text()
    for node in slurm.nodes:
        assert lines_with(said, f"node {node}: agent", f"from {ADDRESS} by tcp://[{ADDRESS}]:"), said
    address, *status = (run / "look" / "look.log").read_text().splitlines()
    assert address == ADDRESS
    assert "is running" in status[0], status
    assert lines_with("\n".join(status), "http", "ready")
    assert lines_with("\n".join(status), "tcp", "ready")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://fd00:7::1:8000/x", "fd00:7::1", 8000),
        ("http://[fd00:7::1]:8000/x", "fd00:7::1", 8000),
        ("http://fd00:7::/x", "fd00:7::", 80),
        ("http://[fe80::1%ib0]:8000/x", "fe80::1%ib0", 8000),
    ],
)
def test_f14_addresses_in_urls(url: str, host: str, port: int) -> None:
    parts = split_url(url)
    assert (parts.host, parts.port, parts.target) == (host, port, "/x")
    assert parts.host_header == (f"[{host}]" if port == 80 else f"[{host}]:{port}")
