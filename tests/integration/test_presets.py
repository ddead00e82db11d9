"""Presets with their real programs: ready when they really serve, one cluster of several replicas, and gone at the end."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support import sflow_ctl

HEAD = 'version: "0.1"\nworkflow:\n  name: presets\n  tasks:\n'


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test if a program is missing, and name it."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")


def run(cwd: Path, tasks: str, *options: str) -> tuple[int, str, Path]:
    """Return the exit status, the output, and the run directory."""
    (cwd / "w.yaml").write_text(HEAD + tasks)
    ended = sflow_ctl("run", "w.yaml", "--run-id", "r", *options, cwd=cwd)
    return ended.returncode, ended.stdout + ended.stderr, cwd / "sflow_output" / "r"


def log(directory: Path, task: str) -> str:
    """Return the output of a task."""
    return (directory / task / f"{task}.log").read_text()


@needs("etcd", "curl")
def test_three_etcds_are_one_cluster_and_ready_when_it_has_a_leader(tmp_path: Path) -> None:
    status, said, _ = run(
        tmp_path,
        """
    - {name: store, uses: etcd, replicas: {count: 3}}
    - name: client
      depends_on: [store]
      script:
        - set -eu
        - |
          curl -sS -f -d '{"key": "YQ==", "value": "Yg=="}' http://${{ task.store[0].endpoint.client }}/v3/kv/put
          curl -sS -f -d '{"key": "YQ=="}' http://${{ task.store[2].endpoint.client }}/v3/kv/range > kept
          curl -sS -f -d '{}' http://${{ task.store[1].endpoint.client }}/v3/cluster/member/list > members
""",
    )
    assert status == 0, said
    assert json.loads((tmp_path / "kept").read_text())["kvs"][0]["value"] == "Yg=="
    members = json.loads((tmp_path / "members").read_text())["members"]
    assert {one["name"] for one in members} == {"member0", "member1", "member2"}
    assert len({one["clientURLs"][0] for one in members}) == 3


@needs("nats-server", "curl")
def test_nats_servers_are_one_cluster_with_streams_where_asked(tmp_path: Path) -> None:
    status, said, _ = run(
        tmp_path,
        """
    - {name: bus-1, uses: nats, with: {jetstream: true}}
    - {name: bus, uses: nats, replicas: {count: 2}}
    - name: client
      depends_on: [bus, bus-1]
      script:
        - set -eu
        - |
          until curl -sS -f http://${{ task.bus[0].endpoint.monitor }}/routez > routes && grep -q '"num_routes": 1' routes; do
            sleep 0.05
          done
        - curl -sS -f 'http://${{ task["bus-1"].endpoint.monitor }}/jsz' > streams
        - curl -sS 'http://${{ task.bus[1].endpoint.monitor }}/jsz' > none
""",
    )
    assert status == 0, said
    assert "disabled" not in json.loads((tmp_path / "streams").read_text())
    assert json.loads((tmp_path / "none").read_text())["disabled"] is True


@needs("redis-server")
def test_redis_is_ready_when_it_answers_also_where_it_wants_a_password(tmp_path: Path) -> None:
    ask = "exec 3<> /dev/tcp/$SFLOW_NODE_IP/{port}; printf '{line}\\\\r\\\\n' >&3; read -r answer <&3; echo \\\"$answer\\\""
    plain = ask.format(port="${{ task.plain.port.redis }}", line="PING")
    closed = ask.format(port="${{ task.closed.port.redis }}", line="AUTH secret")
    status, said, directory = run(
        tmp_path,
        f"""
    - {{name: plain, uses: redis}}
    - {{name: closed, uses: redis, with: {{args: "--requirepass secret"}}}}
    - {{name: client, depends_on: [plain, closed], script: ["{plain}", "{closed}"]}}
""",
    )
    assert status == 0, said
    assert [line.strip() for line in log(directory, "client").splitlines()] == ["+PONG", "+OK"]


@needs("nginx", "curl")
def test_nginx_shares_requests_among_the_replicas_of_a_task(tmp_path: Path) -> None:
    status, said, directory = run(
        tmp_path,
        """
    - name: worker
      replicas: {count: 3}
      ports: {http: 1}
      script:
        - cd "$SFLOW_TASK_OUTPUT_DIR" && echo "$SFLOW_TASK_NAME" > who
        - exec python3 -m http.server --bind "$SFLOW_NODE_IP" "$SFLOW_PORT_HTTP"
      probes: {readiness: {tcp_port: {port: "${{ port.http }}"}}}
    - name: router
      uses: nginx
      depends_on: [worker]
      with: {upstreams: "${{ task.worker.endpoints.http }}", balance: ""}
    - name: client
      depends_on: [router]
      script: ['for i in 1 2 3 4 5 6 7 8 9; do curl -sS -f http://${{ task.router.endpoint.http }}/who; done']
""",
    )
    assert status == 0, said
    answers = log(directory, "client").split()
    assert len(answers) == 9
    assert set(answers) == {"worker_0", "worker_1", "worker_2"}


@needs("ray")
def test_a_ray_head_is_ready_when_it_knows_of_its_own_node(tmp_path: Path) -> None:
    status, said, directory = run(
        tmp_path,
        """
    - {name: head, uses: ray-head, probes: {readiness: {deadline: 3m}}}
    - {name: client, depends_on: [head], script: ["ray status --address ${{ task.head.endpoint.gcs }}"]}
""",
    )
    assert status == 0, said
    assert " 1 node_" in log(directory, "client")


STAND_IN_RAY = r"""#!/usr/bin/env python3
import socket, sys, time
options = dict(zip(sys.argv[2::1], sys.argv[3::1]))
if sys.argv[1] == "start":
    print("gpus", options["--num-gpus"], "workers", options["--min-worker-port"], options["--max-worker-port"], flush=True)
    server = socket.create_server((options["--node-ip-address"], int(options["--port"])))
    while True:
        server.accept()[0].sendall(b"Node status\nActive:\n 1 node_x\n")
host, _, port = options["--address"].rpartition(":")
print(socket.create_connection((host, int(port))).makefile().read())
"""


def test_a_ray_head_gets_its_gpus_and_its_ports(tmp_path: Path) -> None:
    """Without ray itself, which is large."""
    ray = tmp_path / "ray"
    ray.write_text(STAND_IN_RAY)
    ray.chmod(0o755)
    status, said, directory = run(
        tmp_path,
        f"""
    - {{name: head, uses: ray-head, with: {{program: {ray}}}, resources: {{gpus: {{count: 2}}}}}}
    - {{name: client, depends_on: [head], script: ["{ray} status --address ${{{{ task.head.endpoint.gcs }}}}"]}}
""",
        "--gpus-per-node=2",
        "--simulate-gpus",
    )
    assert status == 0, said
    _, gpus, _, low, high = log(directory, "head").split()
    assert gpus == "2"
    assert int(high) - int(low) == 63
    assert "Active:" in log(directory, "client")


@pytest.mark.parametrize("name", ["etcd", "nats", "redis", "nginx", "ray-head"])
def test_a_program_that_is_not_there_is_named_with_the_way_out(name: str, tmp_path: Path) -> None:
    upstreams = ", upstreams: 'a:1'" if name == "nginx" else ""
    status, said, _ = run(
        tmp_path, f"    - {{name: s, uses: {name}, with: {{program: no-such-one{upstreams}}}}}\n"
    )
    assert status == 1
    assert f'{name}: "no-such-one" is not on the PATH of' in said
    assert "with: {program: ...}" in said
