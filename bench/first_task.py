"""Runs one `true` through the whole program.

Beside it, an interpreter that only imports what no controller can do without.
"""

import sys

from bench.measure import interleaved, report, run_workflow, scratch, seconds

WORKFLOW = 'version: "0.1"\nworkflow: {name: one, tasks: [{name: a, script: ["true"]}]}\n'


def main() -> None:
    """Seconds of a whole process."""
    with scratch() as cwd:
        results = interleaved(
            {
                "sflow-ctl run": lambda: run_workflow(WORKFLOW, cwd)[0],
                "python + zmq + yaml": lambda: seconds([sys.executable, "-c", "import zmq, yaml"]),
                "bash -c true": lambda: seconds(["bash", "-c", "true"]),
            },
            15,
        )
    report("first_task", "s", results)


if __name__ == "__main__":
    main()
