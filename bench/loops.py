"""What an iteration of a loop costs, of few and of many: a block of one task that does nothing, repeated.

Processor time of all processes and bytes below `.sflow`, for each iteration: a loop whose plan is written anew each time shows as
figures that grow with its length.
"""

import functools
import resource
from pathlib import Path

from bench.measure import interleaved, median, report, run_workflow, scratch, sized

LENGTHS = sized((10, 100, 1_000), (2, 3, 5))
ROUNDS = 2


def workflow(length: int) -> str:
    """Return a loop of so many iterations."""
    return f"""\
version: "0.1"
workflow:
  name: loop
  blocks:
    step:
      inputs: {{n: int}}
      outputs: {{n: "${{{{ task.work.outputs.n }}}}"}}
      tasks:
        work:
          script: ['echo "{{\\"n\\": $(( ${{{{ block.inputs.n }}}} + 1 ))}}" > $SFLOW_OUTPUTS_FILE']
          outputs: {{n: {{type: int}}}}
  tasks:
    count:
      block: step
      with: {{n: 0}}
      loop:
        max_iterations: {length}
        until: "${{{{ last.outputs.n >= {length} }}}}"
        carry: {{n: "${{{{ last.outputs.n }}}}"}}
"""


class Loop:
    """Runs of one length."""

    def __init__(self, cwd: Path, length: int) -> None:
        self._cwd, self._length = cwd, length
        self.seconds: list[float] = []
        self.kilobytes = 0.0
        """Below `.sflow`, for each iteration of the last run."""

    def cost_ms(self) -> float:
        """Return the milliseconds of processor time, of all processes, for an iteration."""
        before = _children_s()
        seconds, directory = run_workflow(workflow(self._length), self._cwd, "-q")
        self.seconds.append(seconds)
        files = [path for path in (directory / ".sflow").rglob("*") if path.is_file()]
        self.kilobytes = sum(path.stat().st_size for path in files) / 1000 / self._length
        return (_children_s() - before) * 1000 / self._length


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    with scratch() as cwd:
        loops = {f"{length} iterations": Loop(cwd, length) for length in LENGTHS}
        results = interleaved({name: functools.partial(loop.cost_ms) for name, loop in loops.items()}, ROUNDS)
        notes: dict[str, object] = {
            f"s, and kB of .sflow for an iteration, {name}": f"{median(loop.seconds):.2f}, {loop.kilobytes:.1f}"
            for name, loop in loops.items()
        }
        report("loops", "processor ms of an iteration", results, notes)


if __name__ == "__main__":
    main()
