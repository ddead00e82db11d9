"""`top` as a command: on a live run that uses a CPU and memory, and on one that has ended."""

import json
from pathlib import Path

from tests.support import Run, sflow_ctl, wait_until

WORKFLOW = r"""version: "0.1"
workflow:
  name: w
  tasks:
    - {name: busy, script: ["exec python3 -c 'x = bytearray(50_000_000)\nwhile True: pass'"]}
    - {name: idle, script: ["exec sleep 600"]}
"""


def test_top_shows_what_live_tasks_use_until_the_run_has_ended(tmp_path: Path) -> None:
    run = Run.start(WORKFLOW, tmp_path, run_id="live")
    try:

        def both() -> dict[str, dict[str, float]] | None:
            report = json.loads(sflow_ctl("top", "--json", cwd=tmp_path).stdout)
            tasks = {task["task"]: task for task in report["tasks"]}
            is_measured = len(tasks) == 2 and all(task["cpu_percent"] is not None for task in tasks.values())
            return tasks if is_measured and report["nodes"] else None

        tasks = wait_until(both, "measurements of both tasks")
        assert tasks["busy"]["cpu_percent"] > tasks["idle"]["cpu_percent"]
        assert tasks["busy"]["memory_bytes"] > 50_000_000
        text = sflow_ctl("top", cwd=tmp_path).stdout
        assert text.index("busy ") < text.index("idle ")
        assert "localhost: CPU " in text
    finally:
        run.kill()
    ended = sflow_ctl("top", cwd=tmp_path)
    assert ended.returncode == 0
    assert "busy" not in ended.stdout
