"""Ports and files of tasks in whole runs: real servers on leased ports, several runs at once, thieves."""

import socket
from pathlib import Path

from tests.support import Run, sflow_ctl, wait_until

HEAD = 'version: "0.1"\nworkflow:\n  name: ports\n  tasks:\n'
SERVE = "exec python3 -m http.server $SFLOW_PORT_HTTP"
READY = 'probes: {readiness: {http_get: {url: "http://127.0.0.1:${{ port.http }}/"}}}'
FETCH = """
import sys, urllib.request
for endpoint in sys.argv[1:]:
    print("answered", endpoint, urllib.request.urlopen(f"http://{endpoint}/").status)
"""


def run(cwd: Path, tasks: str, *options: str) -> tuple[int, str, Path]:
    """Return the exit status, the output, and the run directory."""
    (cwd / "w.yaml").write_text(HEAD + tasks)
    (cwd / "fetch.py").write_text(FETCH)
    ended = sflow_ctl("run", "w.yaml", "--run-id", "r", *options, cwd=cwd)
    return ended.returncode, ended.stdout + ended.stderr, cwd / "sflow_output" / "r"


def log(directory: Path, task: str) -> str:
    """Return the output of a task."""
    return (directory / task / f"{task}.log").read_text()


def test_thirty_servers_and_a_client_that_gets_their_endpoints(tmp_path: Path) -> None:
    status, said, directory = run(
        tmp_path,
        f"""
    - {{name: server, replicas: {{count: 30}}, ports: {{http: 1}}, script: ["{SERVE}"], {READY}}}
    - name: client
      depends_on: [server]
      script: ['python3 $SFLOW_WORKSPACE_DIR/fetch.py ${{{{ task.server.endpoints.http | join(" ") }}}}']
""",
    )
    assert status == 0, said
    answered = [line.split()[1] for line in log(directory, "client").splitlines() if "answered" in line]
    assert len(set(answered)) == 30
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    high = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[1])
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in answered]
    assert low <= 11_000 or not any(low <= port <= high for port in ports)


def test_f22_runs_at_the_same_time_on_one_machine_never_collide(tmp_path: Path) -> None:
    script = (
        "import os, socket, time; numbers = os.environ['SFLOW_PORTS_HTTP'].split(','); time.sleep(0.2); "
        "kept = [socket.create_server(('', int(number))) for number in numbers]; time.sleep(0.3)"
    )
    workflow = f"""{HEAD}
    - {{name: s, replicas: {{count: 25}}, ports: {{http: {{count: 4, contiguous: true}}}}, script: ["python3 -c \\"{script}\\""]}}
"""
    runs = [Run.start(workflow, tmp_path, run_id=name) for name in ("one", "two")]
    for one in runs:
        said, _ = one.process.communicate(timeout=60)
        assert one.process.returncode == 0, said


THIEF = """
if [ "$SFLOW_ATTEMPT" = 1 ]; then
  echo $SFLOW_PORT_HTTP > $SFLOW_WORKSPACE_DIR/wanted
  until [ -e $SFLOW_WORKSPACE_DIR/stolen ]; do sleep 0.02; done
fi
exec python3 -m http.server $SFLOW_PORT_HTTP
"""


def test_f21_a_port_that_is_stolen_before_the_bind_is_replaced(tmp_path: Path) -> None:
    body = "".join(f"        {line}\n" for line in THIEF.strip().splitlines())
    workflow = f"""{HEAD}
    - name: s
      ports: {{http: 1}}
      {READY}
      script:
       - |
{body}
    - name: c
      depends_on: [s]
      script: ["python3 $SFLOW_WORKSPACE_DIR/fetch.py ${{{{ task.s.endpoints.http[0] }}}}"]
"""
    (tmp_path / "fetch.py").write_text(FETCH)
    going = Run.start(workflow, tmp_path)
    going.wait_for("s", "running")
    wanted = tmp_path / "wanted"
    port = int(
        wait_until(lambda: wanted.read_text().strip() if wanted.exists() else None, "the port of the task")
    )
    with socket.create_server(("127.0.0.1", port)):
        (tmp_path / "stolen").touch()
        said, _ = going.process.communicate(timeout=60)
    assert going.process.returncode == 0, said
    assert f"port {port} (http) is used by process" in said
    assert "again with another port, which does not count as a retry" in said


def test_a_file_is_rendered_with_the_ports_of_all_when_its_task_starts(tmp_path: Path) -> None:
    (tmp_path / "tail.conf").write_text("listen ${{ port.http }}")
    (tmp_path / "artifacts.yaml").write_text(
        'version: "0.1"\nartifacts: {conf: {uri: "file://conf", content: "${{ task.worker[1].port.rpc }} ${{ replica.name }}"}}\n'
        "workflow: {name: ports, tasks: []}\n"
    )
    status, said, directory = run(
        tmp_path,
        """
    - name: router
      ports: {http: 1}
      files:
        etc/router.conf: |
          {% for endpoint in task.worker.endpoints.rpc %}server ${{ endpoint }};
          {% endfor %}
        tail.conf: {from: tail.conf}
        inline.conf: {from: conf}
        run.sh:
          content: "#!/bin/sh\\ncat $SFLOW_TASK_FILES_DIR/etc/router.conf\\necho files in $SFLOW_TASK_FILES_DIR\\n"
          mode: "755"
      script: ["$SFLOW_TASK_FILES_DIR/run.sh; echo own $SFLOW_PORT_HTTP"]
    - {name: worker, replicas: {count: 2}, depends_on: [router], ports: {rpc: 2}, script: ["echo mine $SFLOW_PORTS_RPC"]}
""",
        "--file",
        "artifacts.yaml",
    )
    assert status == 0, said
    lines = log(directory, "router").splitlines()
    workers = [log(directory, f"worker_{index}").split()[1].split(",") for index in range(2)]
    assert lines[:4] == [f"server 127.0.0.1:{port};" for ports in workers for port in ports]
    assert f"files in {directory}/router" in lines
    assert (directory / "router" / "tail.conf").read_text() == f"listen {lines[-1].split()[1]}"
    assert (directory / "router" / "inline.conf").read_text() == f"{workers[1][0]} router"
    assert not (directory / "conf").exists()


def test_a_gang_meets_at_a_leased_port(tmp_path: Path) -> None:
    (tmp_path / "meet.py").write_text("""
import os, socket, sys
where = (os.environ["SFLOW_MASTER_ADDR"], int(os.environ["SFLOW_MASTER_PORT"]))
world, rank = int(os.environ["SFLOW_WORLD_SIZE"]), os.environ["SFLOW_RANK"]
if rank == "0":
    with socket.create_server(where) as server:
        met = sorted(server.accept()[0].recv(10).decode() for _ in range(world - 1))
    print("met", *met)
else:
    while True:
        try:
            with socket.create_connection(where, timeout=1) as connection:
                connection.sendall(rank.encode())
            break
        except ConnectionRefusedError:
            continue
print("own", os.environ["SFLOW_PORT_RPC"], sys.argv[1])
""")
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\n'
        "backends: {pool: {type: slurm, account: a, partition: p, time: 10, nodes: 3, gpus_per_node: 2}}\n"
        "operators: {two_each: {type: srun, ntasks_per_node: 2}}\n"
        "workflow:\n  name: gang\n  tasks:\n"
        "    - {name: g, operator: two_each, ports: {rpc: 1}, script: ['python3 $SFLOW_WORKSPACE_DIR/meet.py ${{ port.rpc }}']}\n"
    )
    ended = sflow_ctl("run", "w.yaml", "--nodes", "3", "--run-id", "r", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = log(tmp_path / "sflow_output" / "r", "g")
    assert "0: met 1 2 3 4 5" in said
    own = [line.split() for line in sorted(said.splitlines()) if "own" in line]
    ports = [line[2] for line in own]
    assert ports[0] == ports[1]
    assert ports[2] == ports[3]
    assert len(set(ports)) == 3  # one lease a node
    assert {line[3] for line in own} == {ports[0]}


def test_a_task_that_names_it_has_a_port_to_meet_at(tmp_path: Path) -> None:
    status, said, directory = run(
        tmp_path,
        '    - {name: a, script: ["echo at $SFLOW_MASTER_PORT"]}\n    - {name: b, script: ["env"]}\n',
    )
    assert status == 0, said
    assert log(directory, "a").split()[1].isdecimal()
    assert "SFLOW_MASTER_PORT" not in log(directory, "b")


def test_files_are_written_where_the_run_directory_is_not_shared(tmp_path: Path) -> None:
    status, said, directory = run(
        tmp_path,
        """
    - name: a
      ports: {http: 1}
      files: {a/b: "port ${{ port.http }}"}
      script: ["cat $SFLOW_TASK_FILES_DIR/a/b; echo; echo $SFLOW_PORT_HTTP $SFLOW_TASK_FILES_DIR"]
""",
        "--log-spool",
        "spool",
    )
    assert status == 0, said
    rendered, own = log(directory, "a").splitlines()
    port, where = own.split()
    assert rendered == f"port {port}"
    assert where.startswith(str(tmp_path / "spool"))
    assert not (directory / "a" / "a").exists()


def test_a_client_finds_where_a_server_with_leased_ports_serves(tmp_path: Path) -> None:
    ready = 'probes: {readiness: {http_get: {url: "${{ task.server.service.url }}/"}}}'
    shown = '["${{ task.server.service.host }}", "${{ task.server.service.port }}"]'
    status, said, directory = run(
        tmp_path,
        f"""
    - {{name: server, ports: {{http: 1, other: 2}}, script: ["echo $SFLOW_PORT_HTTP; {SERVE}"], {ready}}}
    - name: client
      depends_on: [server]
      variables: {{URL: "${{{{ task.server.service.url }}}}"}}
      files: {{where.json: '{shown}'}}
      script:
        - cd $SFLOW_WORKSPACE_DIR
        - 'echo $URL; cat $SFLOW_TASK_FILES_DIR/where.json; echo; python3 fetch.py ${{{{ task.server.service.url[7:] }}}}'
""",
    )
    assert status == 0, said
    port = log(directory, "server").split()[0]
    url, where, answered = log(directory, "client").splitlines()
    assert where == f'["127.0.0.1", "{port}"]'
    assert url == f"http://127.0.0.1:{port}"
    assert answered == f"answered 127.0.0.1:{port} 200"
