"""Milliseconds from a service being up to its dependant running: its bind, its log line, its first HTTP 200.

Services come up one after another in one run, each with a dependant. Times are the service's own clock and the
controller's journal (both monotonic): what is measured ends when the controller knows that the dependant runs.
"""

import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import SFLOW_CTL, machine, scratch, sized
from sflow_ctl.core.states import TaskState
from sflow_ctl.runtime.journal.reader import TRANSITION, entries_of

SERVICES, RUNS = sized((20, 3), (2, 1))
INTERVALS_S = sized((0.1, 1.0, 5.0, 30.0), (0.1,))
OTHERS = sized(500, 3)
FIRST_PORT = 21_000
WITHIN_S = 120.0
WARM_UP_S = 0.3
"""How long the server that answers 503 does so."""

SERVER = """
import socket, sys, time
kind, port, warm_up_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
if kind == "log":
    print("now", time.monotonic(), "server ready", flush=True)
    time.sleep(600)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", port))
up = time.monotonic() + (warm_up_s if kind == "503" else 0)
s.listen(64)
print("now", up, flush=True)
while True:
    c, _ = s.accept()
    if kind != "port":
        c.recv(4096)
        status = b"200 OK" if time.monotonic() >= up else b"503 No"
        c.sendall(b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 0\\r\\n\\r\\n")
    c.close()
"""


def probe(kind: str, port: int, interval_s: float) -> str:
    """The readiness probe of one service."""
    what = {
        "port": f"tcp_port: {{port: {port}}}",
        "log": "log_watch: {match_pattern: server ready}",
    }.get(kind, f'http_get: {{url: "http://127.0.0.1:{port}/"}}')
    return f"{{readiness: {{{what}, interval: {interval_s}}}}}"


def workflow(kind: str, interval_s: float, server: Path, stuck_ports: list[int]) -> str:
    """The services in a row, and beside them one that never gets ready for each of `stuck_ports`."""
    lines = ['version: "0.1"', "workflow:", "  name: readiness", "  tasks:"]
    for number, port in enumerate(stuck_ports):
        lines.append(
            f"    - {{name: o{number}, script: [exec sleep 600], probes: {probe('http', port, 5.0)}}}"
        )
    # A burst of 500 starts is measured by other benchmarks: here they wait already.
    lines.append(f"    - {{name: begin, script: [sleep {sized(3, 0) if stuck_ports else 0}]}}")
    for number in range(SERVICES):
        port = FIRST_PORT + number
        after = f", depends_on: [{f'c{number - 1}' if number else 'begin'}]"
        script = f'["exec {sys.executable} -S -E {server} {kind} {port} {WARM_UP_S}"]'
        lines.append(
            f"    - {{name: s{number}, script: {script}{after}, probes: {probe(kind, port, interval_s)}}}"
        )
        lines.append(f"    - {{name: c{number}, script: ['true'], depends_on: [s{number}]}}")
    return "\n".join(lines) + "\n"


def delays_ms(kind: str, interval_s: float, cwd: Path, stuck_ports: list[int]) -> list[float]:
    """One run's delays."""
    server, file = cwd / "server.py", cwd / "workflow.yaml"
    server.write_text(SERVER)
    file.write_text(workflow(kind, interval_s, server, stuck_ports))
    output = Path(tempfile.mkdtemp(prefix="out-", dir=cwd))
    command = [*SFLOW_CTL, "run", str(file), "--output-dir", str(output), "--run-id", "r", "--quiet"]
    process = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + WITHIN_S
        while len(started := dependants(output / "r")) < SERVICES:
            if time.monotonic() > deadline:
                sys.exit(f"{kind}, interval {interval_s}: only {len(started)} of {SERVICES} dependants ran")
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    return [
        (at - up_at(output / "r" / f"s{number}" / f"s{number}.log")) * 1000 for number, at in started.items()
    ]


def dependants(directory: Path) -> dict[int, float]:
    """When each dependant ran, by the controller's clock."""
    return {
        int(entry.transition.task[1:]): entry.at
        for entry in entries_of(directory, (TRANSITION,))
        if entry.transition is not None
        and entry.transition.task.startswith("c")
        and entry.transition.new is TaskState.RUNNING
    }


def up_at(log: Path) -> float:
    """When the service was up, by its own clock, which is the same one."""
    return float(log.read_text().split()[1])


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all are not above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    """A table and a line of JSON."""
    results: dict[str, list[float]] = {}
    with scratch() as cwd, socket.create_server(("127.0.0.1", 0), backlog=4096) as hole:
        stuck = [hole.getsockname()[1]] * OTHERS
        closed = [FIRST_PORT - 1] * OTHERS
        cases: list[tuple[str, float, str, list[int]]] = [
            (kind, interval_s, "", [])
            for kind in ("port", "log", "http", "503")
            for interval_s in INTERVALS_S
        ]
        cases += [(kind, 5.0, f", {OTHERS} stuck", stuck) for kind in ("port", "log", "http")]
        cases += [(kind, 5.0, f", {OTHERS} refused", closed) for kind in ("port", "http")]
        for _ in range(RUNS):
            for kind, interval_s, beside, ports in cases:
                found = delays_ms(kind, interval_s, cwd, ports)
                results.setdefault(f"{kind}, interval {interval_s:g} s{beside}", []).extend(found)
    width = max(map(len, results))
    print(f"\nreadiness (ms; {machine()})\n{'':{width}}  {'median':>8} {'p99':>8}  n")
    for name, values in results.items():
        print(
            f"{name:{width}}  {statistics.median(values):8.2f} {percentile(values, 0.99):8.2f}  {len(values)}"
        )
    medians = {name: round(statistics.median(values), 3) for name, values in results.items()}
    tails = {name: round(percentile(values, 0.99), 3) for name, values in results.items()}
    print(
        json.dumps(
            {"bench": "readiness", "unit": "ms", "median": medians, "p99": tails, "machine": machine()}
        )
    )


if __name__ == "__main__":
    main()
