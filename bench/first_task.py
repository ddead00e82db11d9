"""Runs one `true` through the whole program.

Beside it, an interpreter that only imports what no controller can do without, and honcho, which runs the same from a Procfile, if
that is on PATH.
"""

import shutil
import sys
from pathlib import Path

from bench.measure import interleaved, report, run_workflow, scratch, seconds

WORKFLOW = 'version: "0.1"\nworkflow: {name: one, tasks: [{name: a, script: ["true"]}]}\n'


def honcho_s(program: str, cwd: Path) -> float:
    """Return the seconds of a whole process of honcho."""
    (cwd / "Procfile").write_text("a: true\n")
    return seconds([program, "start"], cwd)


def main() -> None:
    """Seconds of a whole process."""
    with scratch() as cwd:
        candidates = {
            "sflow-ctl run": lambda: run_workflow(WORKFLOW, cwd)[0],
            "python + zmq + yaml": lambda: seconds([sys.executable, "-c", "import zmq, yaml"]),
            "bash -c true": lambda: seconds(["bash", "-c", "true"]),
        }
        if (honcho := shutil.which("honcho")) is not None:
            candidates["honcho"] = lambda: honcho_s(honcho, cwd)
        results = interleaved(candidates, 15)
    report("first_task", "s", results)


if __name__ == "__main__":
    main()
