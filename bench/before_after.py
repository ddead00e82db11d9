"""Compares two installations of sflow-ctl, beside what does the same without it.

One task, a chain of 50, 5,000 tasks 64 at a time, and one task that prints 200 MB. Takes the other installation's
command: `python -m bench.before_after ELSEWHERE/.venv/bin/sflow-ctl [CASE ...]`. Both run the same files, in turn. A
ratio is this installation's over the other one's; below 1 is faster.
"""

import functools
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import chain, fan_out, first_task
from bench.log_firehose import HEAD, MEGABYTES, writer
from bench.measure import SFLOW_CTL, interleaved, median, report, run_workflow, scratch, seconds

ROUNDS = {"first_task": 15, "chain": 9, "fan_out": 5, "log_flood": 5, "log_flood_console": 5}
REAPED_WITHIN_S = 0.05
"""The last descendants of a run have been waited for by then: their processor time counts."""


class Comparison:
    """One case of both installations."""

    def __init__(self, cwd: Path, text: str, options: tuple[str, ...] = ()) -> None:
        self._cwd, self._text, self._options = cwd, text, options
        self.cpu_s: dict[str, list[float]] = {}
        self.whole_s: dict[str, list[float]] = {}

    def seconds(self, which: str, command: list[str]) -> float:
        """Return the seconds of one run of the whole program; note those of all its processes' processors."""
        before = _children_s()
        elapsed, _ = run_workflow(self._text, self._cwd, *self._options, command=command)
        time.sleep(REAPED_WITHIN_S)
        self.cpu_s.setdefault(which, []).append(_children_s() - before)
        self.whole_s.setdefault(which, []).append(elapsed)
        return elapsed

    def flood_s(self, which: str, command: list[str]) -> float:
        """Return the seconds that a program took to print, as it has noted them itself."""
        self.seconds(which, command)
        begin, end = (self._cwd / "times").read_text().split()
        return float(end) - float(begin)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def flood(cwd: Path, target: str = "") -> str:
    """Return a script that prints, and notes when it began and ended."""
    return f"begin=$EPOCHREALTIME; {writer(MEGABYTES)}{target}; echo $begin $EPOCHREALTIME > {cwd}/times"


def flood_alone_s(cwd: Path) -> float:
    """Return the seconds of the same program, printing to a file."""
    (cwd / "alone.log").unlink(missing_ok=True)
    seconds(["bash", "-c", flood(cwd, " > alone.log")], cwd)
    begin, end = (cwd / "times").read_text().split()
    return float(end) - float(begin)


def compare(name: str, commands: dict[str, list[str]]) -> None:
    """Measure one case and print its table."""
    with scratch() as cwd:
        floors: dict[str, Callable[[], float]] = {}
        match name:
            case "first_task":
                case = Comparison(cwd, first_task.WORKFLOW)
                floors["bash -c true"] = lambda: seconds(["bash", "-c", "true"])
            case "chain":
                case = Comparison(cwd, chain.workflow())
                chain.makefile(cwd)
                floors["make -j1"] = lambda: seconds(["make", "-s", "-j1", "all"], cwd)
            case "fan_out":
                case = Comparison(cwd, fan_out.workflow(), ("-q", "--max-running", str(fan_out.AT_ONCE)))
                floors[f"xargs -P{fan_out.AT_ONCE}"] = fan_out.xargs_s
            case _:
                text = f'{HEAD}    - name: hose\n      script:\n        - "{flood(cwd)}"\n'
                case = Comparison(cwd, text, () if name.endswith("console") else ("-q",))
                floors["to a file by itself"] = functools.partial(flood_alone_s, cwd)
        measure = case.flood_s if name.startswith("log_flood") else case.seconds
        candidates = {
            which: functools.partial(measure, which, command) for which, command in commands.items()
        }
        results = interleaved({**candidates, **floors}, ROUNDS[name])
    notes = {
        "after / before": _ratio(results, median),
        "after / before, best": _ratio(results, min),
        "after / before, processor time": _ratio(case.cpu_s, median),
        "after / before, processor time, best": _ratio(case.cpu_s, min),
    }
    if name.startswith("log_flood"):  # a console has to receive every byte
        notes["after / before, whole run"] = _ratio(case.whole_s, median)
    for floor in floors:
        notes[f"after / {floor}"] = round(median(results["after"]) / median(results[floor]), 3)
    report(f"before_after.{name}", "s", results, notes)


def _ratio(values: dict[str, list[float]], of: Callable[[list[float]], float]) -> float:
    return round(of(values["after"]) / of(values["before"]), 3)


def main() -> None:
    """Seconds of whole processes; of a flood, those of the program that prints."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file() or not set(sys.argv[2:]) <= set(ROUNDS):
        sys.exit(__doc__)
    commands = {"before": [str(Path(sys.argv[1]).absolute())], "after": SFLOW_CTL}
    for name in sys.argv[2:] or ROUNDS:
        compare(name, commands)


if __name__ == "__main__":
    main()
