"""The price of a record that survives a crash of the machine: runs beside the same without syncs, and the journal's steps.

Without syncs: `fsync` and `fdatasync` of the controller do nothing, by a `sitecustomize` module. The steps are a line of the
journal, a sync of some lines, and a full segment that is put away.
"""

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import interleaved, median, report, run_workflow, scratch, sized
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.runtime.journal.segments import SEGMENT_BYTES, close_segment
from sflow_ctl.runtime.journal.writer import Journal

LINKS, TASKS, LINES = sized((50, 2_000, 20_000), (3, 5, 50))
WITHOUT_SYNCS = "import os\nos.fsync = os.fdatasync = lambda descriptor: None\n"


def chain() -> str:
    """Tasks that follow each other."""
    first = '    - {name: t0, script: ["true"]}\n'
    rest = (f'    - {{name: t{n}, depends_on: [t{n - 1}], script: ["true"]}}\n' for n in range(1, LINKS))
    return f'version: "0.1"\nworkflow:\n  name: chain\n  tasks:\n{first}{"".join(rest)}'


def wide(count: int) -> str:
    """Tasks that may start at once."""
    return (
        'version: "0.1"\nworkflow:\n  name: wide\n  tasks:\n'
        f'    - {{name: t, replicas: {{count: {count}}}, script: ["true"]}}\n'
    )


@contextlib.contextmanager
def without_syncs(cwd: Path) -> Iterator[None]:
    """Let processes that are started now not sync."""
    (cwd / "sitecustomize.py").write_text(WITHOUT_SYNCS)
    os.environ["PYTHONPATH"] = str(cwd)
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]


def run(cwd: Path, text: str, *, syncs: bool) -> float:
    """Return the seconds of a whole process."""
    with contextlib.nullcontext() if syncs else without_syncs(cwd):
        return run_workflow(text, cwd, "-q")[0]


class Steps:
    """A journal, written as a run of many tasks writes it."""

    def __init__(self, cwd: Path) -> None:
        self._path = cwd / "journal" / "events.jsonl"
        self._path.parent.mkdir()
        self._journal = Journal(self._path, 1)
        self._end = Transition(
            task="t_12345", attempt=1, old=TaskState.RUNNING, new=TaskState.COMPLETED,
            reason=Reason("exit", "exit status 0"), node=0, exit_code=0, runtime_s=0.5,
        )  # fmt: skip

    def line(self) -> float:
        """Microseconds of a line, written 20 at a time."""
        started = time.perf_counter()
        for number in range(LINES):
            self._journal.transition(self._end, 1.0)
            if number % 20 == 0:
                self._journal.flush(-1.0)
        return (time.perf_counter() - started) * 1e6 / LINES

    def sync(self) -> float:
        """Microseconds of a sync of 20 lines."""
        for _ in range(20):
            self._journal.transition(self._end, 1.0)
        started = time.perf_counter()
        self._journal.flush(1.0, syncs_at_once=True)
        return (time.perf_counter() - started) * 1e6

    def segment(self) -> float:
        """Microseconds of putting a full segment away."""
        line = (
            b'{"seq":1,"incarnation":1,"wall_ns":1,"at":1.5,"kind":"transition"}'
            + os.urandom(8).hex().encode()
        )
        full = self._path.with_name("full.jsonl")
        full.write_bytes((line + b"\n") * (sized(SEGMENT_BYTES, 1000) // len(line)))
        started = time.perf_counter()
        close_segment(full, 1)
        return (time.perf_counter() - started) * 1e6

    def close(self) -> None:
        """End it."""
        self._journal.close()


def main() -> None:
    """Seconds of whole processes, and microseconds of the steps."""
    with scratch() as cwd:
        cases = {"one task": wide(1), f"chain of {LINKS}": chain(), f"{TASKS} tasks": wide(TASKS)}
        found = interleaved(
            {
                f"{name}{'' if syncs else ', without syncs'}": functools.partial(run, cwd, text, syncs=syncs)
                for name, text in cases.items()
                for syncs in (True, False)
            },
            7,
        )
        ratios = {
            f"{name}, with over without": round(
                median(found[name]) / median(found[f"{name}, without syncs"]), 3
            )
            for name in cases
        }
        report("journal.runs", "s", found, ratios)
        steps = Steps(cwd)
        report(
            "journal.steps",
            "us",
            interleaved({"a line": steps.line, "a sync": steps.sync, "a full segment": steps.segment}, 9),
        )
        steps.close()


if __name__ == "__main__":
    main()
