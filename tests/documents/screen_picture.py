"""Draws the picture of the full-screen view: `python -m tests.documents.screen_picture docs/images/tui.svg`."""

import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from sflow_ctl.cli.tui.app import RunApp
from sflow_ctl.cli.tui.feed import Feed
from sflow_ctl.cli.tui.steering import RunSteering
from sflow_ctl.runtime.record.reader import RunReader
from tests.support import Run

SIZE = (108, 32)
"""Columns and rows."""
SHOWS_AFTER_S = 12.0
"""Use of CPU and memory is there by then, and each log has some lines."""
WORKFLOW = """
version: "0.1"
backends: [{name: lab, type: local, nodes: 2, gpus_per_node: 4}]
workflow:
  name: serve-and-bench
  tasks:
    - {name: prepare, script: sleep 0.3, resources: {nodes: {count: 2}}}
    - name: decode
      depends_on: [prepare]
      replicas: {count: 3}
      resources: {gpus: {count: 2}}
      script: "echo listening; while sleep 0.5; do echo INFO 127.0.0.1 - POST /v1/completions 200 OK; done"
      probes: {readiness: {log_watch: {regex_pattern: listening}}}
    - name: router
      depends_on: [decode]
      script: sleep 600
      probes: {readiness: {tcp_port: {port: 18999}}}
    - {name: bench, depends_on: [router], script: sleep 600}
    - {name: report, depends_on: [bench], script: sleep 1}
    - name: train
      depends_on: [prepare]
      resources: {gpus: {count: 2}}
      script: >-
        for step in $(seq 600); do echo "step $step  loss 0.$((900 - 7 * step))  lr 3e-4"; sleep 0.5; done
"""


async def picture(run: Run) -> str:
    """Return the view of a run as SVG, with the logs of two tasks."""
    feed = Feed(RunReader(run.directory))
    app = RunApp(feed, run.directory, RunSteering(run.directory))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(2.0)
        for presses in ("down", "space", *(["down"] * 6), "space"):
            await pilot.press(presses)
            await pilot.pause(0.3)
        await pilot.pause(SHOWS_AFTER_S)
        drawn = app.export_screenshot(title="sflow-ctl attach --tui")
    feed.close()
    return drawn


def main() -> None:
    """Write the picture to the file that is named."""
    with tempfile.TemporaryDirectory() as directory:
        run = Run.start(
            WORKFLOW, Path(directory), "--simulate-gpus", run_id="serve-and-bench-20261201-101500-4f0a21"
        )
        try:
            drawn = asyncio.run(picture(run))
        finally:
            run.process.send_signal(signal.SIGTERM)
            run.finish()
    text = "\n".join(line.rstrip() for line in drawn.splitlines())
    Path(sys.argv[1]).write_text(f"{text}\n")


if __name__ == "__main__":
    main()
