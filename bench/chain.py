"""Runs 50 no-op tasks in a chain: milliseconds from one task's end to the next one's.

Once as `true`, which is started directly, and once as `:`, a command of bash. Beside it, `make` doing the same, which starts
`true` directly as well.
"""

import itertools
import shutil
import sys
from pathlib import Path

from bench.measure import interleaved, median, report, run_workflow, scratch, seconds, sized
from sflow_ctl.core.states import TaskState
from sflow_ctl.runtime.journal.reader import EVERYTHING, entries_of

LENGTH = sized(50, 3)


DIRECT, BY_BASH = "true", ":"
"""Scripts that do nothing: a program, and a command of bash."""


def tasks(length: int = LENGTH, script: str = DIRECT) -> str:
    """A chain, as lines of a workflow file."""
    return "".join(
        f'    - {{name: t{i}, script: ["{script}"]{f", depends_on: [t{i - 1}]" if i else ""}}}\n'
        for i in range(length)
    )


def workflow(length: int = LENGTH, script: str = DIRECT) -> str:
    """Nothing but a chain."""
    return f'version: "0.1"\nworkflow:\n  name: chain\n  tasks:\n{tasks(length, script)}'


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


def makefile(cwd: Path, command: str = "bash -c true") -> None:
    """Write the same chain of a command for make."""
    rules = [f"t0:\n\t@{command}\n"] + [f"t{i}: t{i - 1}\n\t@{command}\n" for i in range(1, LENGTH)]
    (cwd / "Makefile").write_text(f"all: t{LENGTH - 1}\n" + "\n".join(rules))


def make_ms(cwd: Path, command: str) -> float:
    """Return milliseconds of make for each command of the chain."""
    makefile(cwd, command)
    return seconds(["make", "-s", "-j1", "all"], cwd) * 1000 / LENGTH


OURS, OURS_BY_BASH, FLOOR, FLOOR_BY_BASH = (
    "sflow-ctl run, by its journal",
    "the same, tasks by bash",
    "make -j1",
    "make -j1, bash -c true",
)


def main() -> None:
    """Milliseconds per hop."""
    with scratch() as cwd:
        if shutil.which("make") is None:
            sys.exit("make is the floor of this benchmark, and is not installed")
        results = interleaved(
            {
                OURS: lambda: hop_ms(run_workflow(workflow(), cwd)[1]),
                OURS_BY_BASH: lambda: hop_ms(run_workflow(workflow(script=BY_BASH), cwd)[1]),
                "sflow-ctl run, whole process less that of one task": lambda: difference_ms(cwd),
                FLOOR: lambda: make_ms(cwd, "true"),
                FLOOR_BY_BASH: lambda: make_ms(cwd, "bash -c true"),
            },
            9,
        )
    notes = {
        f"{ours} over {floor}": round(
            median([a / b for a, b in zip(results[ours], results[floor], strict=True)]), 2
        )
        for ours, floor in ((OURS, FLOOR), (OURS_BY_BASH, FLOOR_BY_BASH), (OURS, FLOOR_BY_BASH))
    }
    report("chain", "ms per hop", results, notes)


if __name__ == "__main__":
    main()
