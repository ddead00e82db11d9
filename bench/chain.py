"""Runs 50 no-op tasks in a chain: milliseconds from one task's end to the next one's start.

Beside it, `make` doing the same.
"""

import itertools
import shutil
import sys
from pathlib import Path

from bench.measure import interleaved, median, report, run_workflow, scratch, seconds, sized
from sflow_ctl.core.states import TaskState
from sflow_ctl.runtime.journal.reader import EVERYTHING, entries_of

LENGTH = sized(50, 3)


def tasks(length: int = LENGTH) -> str:
    """A chain, as lines of a workflow file."""
    return "".join(
        f'    - {{name: t{i}, script: ["true"]{f", depends_on: [t{i - 1}]" if i else ""}}}\n'
        for i in range(length)
    )


def workflow(length: int = LENGTH) -> str:
    """Nothing but a chain."""
    return f'version: "0.1"\nworkflow:\n  name: chain\n  tasks:\n{tasks(length)}'


def difference_ms(cwd: Path) -> float:
    """What each further task adds to the whole process."""
    one, many = (run_workflow(workflow(length), cwd)[0] for length in (1, LENGTH))
    return (many - one) * 1000 / (LENGTH - 1)


def hop_ms(directory: Path) -> float:
    """Median time between the ends of neighbours, by the controller's clock."""
    ends = [
        entry.at
        for entry in entries_of(directory, EVERYTHING)
        if entry.transition is not None and entry.transition.new is TaskState.COMPLETED
    ]
    return median([(after - before) * 1000 for before, after in itertools.pairwise(ends)])


def makefile(cwd: Path) -> None:
    """The same chain for make."""
    rules = ["t0:\n\t@bash -c true\n"] + [f"t{i}: t{i - 1}\n\t@bash -c true\n" for i in range(1, LENGTH)]
    (cwd / "Makefile").write_text(f"all: t{LENGTH - 1}\n" + "\n".join(rules))


def main() -> None:
    """Milliseconds per hop."""
    with scratch() as cwd:
        if shutil.which("make") is None:
            sys.exit("make is the floor of this benchmark, and is not installed")
        makefile(cwd)
        results = interleaved(
            {
                "sflow-ctl run, by its journal": lambda: hop_ms(run_workflow(workflow(), cwd)[1]),
                "sflow-ctl run, whole process less that of one task": lambda: difference_ms(cwd),
                "make -j1": lambda: seconds(["make", "-s", "-j1", "all"], cwd) * 1000 / LENGTH,
            },
            9,
        )
    report("chain", "ms per hop", results)


if __name__ == "__main__":
    main()
