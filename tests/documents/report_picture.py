"""Draws the pictures of a report: `python -m tests.documents.report_picture docs/images`, with Chromium.

The run is a real one, of 20 seconds; a page that complains about anything in its console is not drawn.
"""

import sys
import tempfile
from pathlib import Path

from tests.chromium import chromium_page, find_chromium
from tests.support import Run

WIDTH, HEIGHT = 1240, 1190
TIMEOUT_S = 120.0
WORKFLOW = """
version: "0.1"
backends: [{name: lab, type: local, nodes: 2, gpus_per_node: 4}]
variables:
  USERS: {value: 1, domain: [1, 4, 16, 64]}
  INPUT: {value: 128, domain: [128, 1024]}
workflow:
  name: serve-and-bench
  monitor: {scopes: {cpu: {interval: 500}, memory: {interval: 500}, gpu: {interval: 500}}}
  tasks:
    - name: prefill
      replicas: {count: 2}
      resources: {gpus: {count: 1}}
      script: "sleep 1.2; echo listening; exec sleep 600"
      probes: {readiness: {log_watch: {regex_pattern: listening}}}
    - name: decode
      resources: {gpus: {count: 4}}
      script: "sleep 2.1; echo listening; exec sleep 600"
      probes: {readiness: {log_watch: {regex_pattern: listening}}}
    - name: dataset
      retries: {count: 1, interval: 500}
      script: "sleep 0.6; if [ $SFLOW_ATTEMPT = 1 ]; then echo 'ConnectionResetError: the mirror hung up'; exit 1; fi"
    - name: router
      depends_on: [prefill, decode, dataset]
      script: "sleep 0.4; echo listening; exec sleep 600"
      probes: {readiness: {log_watch: {regex_pattern: listening}}}
    - name: bench
      depends_on: [router]
      replicas: {variables: [USERS, INPUT], policy: sequential}
      script: |
        sleep 1.4
        python3 -c "
        users, size = $USERS, $INPUT
        slower = 1 if size == 128 else 0.75
        print(f'throughput={260 * users * slower / (1 + users / 20):.1f} tok/s')
        print(f'ttft_ms={(40 if size == 128 else 85) + 1.9 * users:.1f}')"
      outputs: [{pattern: "throughput={throughput:f} tok/s"}, {pattern: "ttft_ms={ttft_ms:f}"}]
    - name: plot
      depends_on: [bench]
      script: "sleep 0.5; python3 -c \\"dict(p50=1)['p99']\\""
"""


def main() -> None:
    """Write the light and the dark picture into the folder that is named."""
    folder, program = Path(sys.argv[1]), find_chromium()
    if program is None:
        sys.exit("Chromium is not installed")
    with tempfile.TemporaryDirectory() as directory:
        run = Run.start(WORKFLOW, Path(directory), "--simulate-gpus", run_id="serve-and-bench-7")
        status, said = run.finish(TIMEOUT_S)
        if status != 1:
            sys.exit(f"the run was to fail in its last task: {status}\n{said}")
        with chromium_page(program) as page:
            page.resize(WIDTH, HEIGHT)
            for scheme, place in (("light", "body"), ("dark", "#usage")):
                page.use_dark(scheme == "dark")
                page.open(run.directory / "report.html")
                page.run(f"document.querySelector('{place}').scrollIntoView(); 0")
                page.run("new Promise((done) => setTimeout(done, 300))")
                page.screenshot(folder / f"report-{scheme}.png")
                if page.problems():
                    sys.exit(f"the page complains: {page.problems()}")


if __name__ == "__main__":
    main()
