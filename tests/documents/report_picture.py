"""Draws the pictures of a report: `python -m tests.documents.report_picture docs/images`, with Chromium.

The run is a real one, of half a minute; a page that complains about anything in its console is not drawn.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chromium import chromium_page, find_chromium
from tests.support import command

WIDTH = 1240
PICTURES = (("light", "body", 1190), ("dark", "#usage", 1480))
"""The scheme, what is at the top, the height."""
TIMEOUT_S = 200.0
SERVER = """import time
held, began = b"x" * ({size} << 20), time.monotonic()
time.sleep({ready})
print("listening", flush=True)
while True:
    until = time.monotonic() + {share}
    while time.monotonic() < until:
        pass
    time.sleep(1 - {share})
"""
BENCH = """import os, time
users, size = int(os.environ["USERS"]), int(os.environ["INPUT"])
until = time.monotonic() + 2.6
held = []
while time.monotonic() < until:
    held.append(bytearray(2 << 20))
    time.sleep(0.1)
slower = 1 if size == 128 else 0.75
print(f"throughput={260 * users * slower / (1 + users / 20):.1f} tok/s")
print(f"ttft_ms={(40 if size == 128 else 85) + 1.9 * users:.1f}")
"""
WORKFLOW = """version: "0.1"
backends: [{name: lab, type: local, nodes: 1, gpus_per_node: 8}]
variables:
  USERS: {value: 1, domain: [1, 4, 16, 64]}
  INPUT: {value: 128, domain: [128, 1024]}
workflow:
  name: serve-and-bench
  tasks:
    - name: prefill
      replicas: {count: 2}
      resources: {gpus: {count: 1}}
      script: "exec python3 prefill.py"
      probes: {readiness: {log_watch: {regex_pattern: listening}}}
    - name: decode
      resources: {gpus: {count: 4}}
      script: "exec python3 decode.py"
      probes: {readiness: {log_watch: {regex_pattern: listening}}}
    - name: dataset
      retries: {count: 1, interval: 1}
      script: |
        sleep 1.2
        if [ $SFLOW_ATTEMPT = 1 ]; then echo 'ConnectionResetError: the mirror hung up'; exit 1; fi
    - name: router
      depends_on: [prefill, decode, dataset]
      script: "sleep 0.6; echo listening; exec sleep 600"
      probes: {readiness: {log_watch: {regex_pattern: listening}}}
    - name: bench
      depends_on: [router]
      replicas: {variables: [USERS, INPUT], policy: sequential}
      script: "python3 bench.py"
      outputs: [{pattern: "throughput={throughput:f} tok/s"}, {pattern: "ttft_ms={ttft_ms:f}"}]
    - name: plot
      depends_on: [bench]
      script: "sleep 1; python3 -c \\"dict(p50=1)['p99']\\""
"""


def failed_run(directory: Path) -> Path:
    """Run the workflow, which fails in its last task; return the page of its report."""
    (directory / "prefill.py").write_text(SERVER.format(size=90, ready=1.4, share=0.1))
    (directory / "decode.py").write_text(SERVER.format(size=180, ready=2.6, share=0.2))
    (directory / "bench.py").write_text(BENCH)
    (directory / "serve.yaml").write_text(WORKFLOW)
    words = command("run", "serve.yaml", "--simulate-gpus", "--run-id", "serve-7")
    done = subprocess.run(
        words, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode != 1:
        sys.exit(f"the run was to fail in its last task: {done.returncode}\n{done.stdout}{done.stderr}")
    return directory / "sflow_output/serve-7/report.html"


def main() -> None:
    """Write the light and the dark picture into the folder that is named."""
    folder, program = Path(sys.argv[1]), find_chromium()
    if program is None:
        sys.exit("Chromium is not installed")
    with tempfile.TemporaryDirectory() as directory, chromium_page(program) as page:
        report = failed_run(Path(directory))
        for scheme, place, height in PICTURES:
            page.resize(WIDTH, height)
            page.use_dark(scheme == "dark")
            page.open(report)
            page.run(f"document.querySelector('{place}').scrollIntoView(); 0")
            page.run("new Promise((done) => setTimeout(done, 300))")
            page.screenshot(folder / f"report-{scheme}.png")
            if page.problems():
                sys.exit(f"the page complains: {page.problems()}")


if __name__ == "__main__":
    main()
