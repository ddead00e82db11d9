"""Compares two installations of sflow-ctl: one task, a chain of 50, and 5,000 tasks, 64 at a time.

Takes the other installation's command: `python -m bench.before_after ELSEWHERE/.venv/bin/sflow-ctl`. Both run
the same files, in turn. The ratio is this installation's median over the other one's; below 1 is faster.
"""

import functools
import sys
from pathlib import Path

from bench import chain, fan_out, first_task
from bench.measure import SFLOW_CTL, interleaved, median, report, run_workflow, scratch

ROUNDS = {"first_task": 15, "chain": 9, "fan_out": 5}


def main() -> None:
    """Seconds of whole processes."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit(__doc__)
    commands = {"before": [str(Path(sys.argv[1]).absolute())], "after": SFLOW_CTL}
    cases = {
        "first_task": (first_task.WORKFLOW, ()),
        "chain": (chain.workflow(), ()),
        "fan_out": (fan_out.workflow(), ("-q", "--max-running", str(fan_out.AT_ONCE))),
    }
    for name, (text, options) in cases.items():
        with scratch() as cwd:
            candidates = {
                which: functools.partial(elapsed, text, cwd, command, options)
                for which, command in commands.items()
            }
            results = interleaved(candidates, ROUNDS[name])
        ratio = median(results["after"]) / median(results["before"])
        report(f"before_after.{name}", "s", results, {"after / before": round(ratio, 3)})


def elapsed(text: str, cwd: Path, command: list[str], options: tuple[str, ...]) -> float:
    """Return the seconds of one run of the whole program."""
    return run_workflow(text, cwd, *options, command=command)[0]


if __name__ == "__main__":
    main()
