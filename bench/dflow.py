"""Compares a map and reduce over small Python functions with the debug mode of dflow, and what an item of a list costs here.

`python -m bench.dflow [PYTHON]`: PYTHON is an interpreter that has pydflow; without one, a release is installed into an
environment of the user's cache. Both square the same numbers and add them up, in turn, and must find the same. Then lists
of few and many items, written and late, beside as many replicas: the processor time of one must not grow with their number.
"""

import functools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from bench.measure import median, report, run_workflow, scratch, sized
from sflow_ctl.runtime.record import layout
from tests.conformance.reference.install import NotInstalledError, environment

VERSION = "1.8.134"
FUNCTIONS, FEW, MANY = sized((500, 500, 20_000), (3, 5, 10))
ROUNDS = 2
TRIES = 4
"""Its pool of processes reads files that others are writing, so that a run with many functions fails now and then."""
WORKERS = 2
"""Functions that dflow runs at once: as many as this machine has CPUs."""

THEIRS = """\
import json

from dflow import Step, Workflow, argo_range, config
from dflow.python import OP, PythonOPTemplate, Slices

config["mode"] = "debug"
config["debug_pool_workers"] = {workers}


@OP.function
def square(number: int) -> {{"value": int}}:
    return {{"value": number * number}}


@OP.function
def total(values: list) -> {{"sum": int, "values": list}}:
    return {{"sum": sum(values), "values": list(values)}}


if __name__ == "__main__":
    slices = Slices(input_parameter=["number"], output_parameter=["value"])
    squares = Step(
        "squares",
        PythonOPTemplate(square, slices=slices),
        parameters={{"number": list(range({count}))}},
        with_param=argo_range({count}),
    )
    values = squares.outputs.parameters["value"]
    workflow = Workflow(name="squares")
    workflow.add(squares)
    workflow.add(Step("total", PythonOPTemplate(total), parameters={{"values": values}}))
    workflow.submit()
    (end,) = [one for one in workflow.query_step() if one["displayName"] == "total"]
    found = end.outputs.parameters
    print(json.dumps({{"sum": json.loads(str(found["sum"].value)), "values": [int(one) for one in found["values"].value]}}))
"""

FUNCTIONS_FILE = """\
def square(number: int) -> int:
    return number * number


def total(values: list) -> dict:
    return {"sum": sum(values), "values": values}
"""

OURS = """\
version: "0.1"
workflow:
  name: squares
  outputs: {{sum: total.outputs.sum, values: total.outputs.values}}
  tasks:
    square:
      foreach: {{count: {count}, max_parallel: {workers}}}
      python: functions.py:square
      inputs: {{number: {{value: "${{{{ item }}}}", type: int}}}}
      outputs: {{value: {{type: int}}}}
    total:
      python: functions.py:total
      inputs: {{values: {{from: square.outputs.value, type: list}}}}
      outputs: {{sum: {{type: int}}, values: {{type: list}}}}
"""


class Squares:
    """The same numbers, squared and added up by either program."""

    def __init__(self, cwd: Path, python: Path) -> None:
        self._cwd, self._python = cwd, python
        (cwd / "functions.py").write_text(FUNCTIONS_FILE)
        (cwd / "theirs.py").write_text(THEIRS.format(count=FUNCTIONS, workers=WORKERS))
        self.found: dict[str, object] = {}
        self.cpu_s: dict[str, float] = {}
        """Of all processes of the last round."""
        self.failed_there, self.last_words = 0, ""
        """How often dflow's program has failed, and what it has said."""

    def here(self) -> float:
        """Return the seconds of our whole process."""
        before = _children_s()
        seconds, directory = run_workflow(OURS.format(count=FUNCTIONS, workers=WORKERS), self._cwd, "-q")
        self.cpu_s["here"] = _children_s() - before
        outputs = json.loads((directory / layout.OUTPUTS).read_bytes())["outputs"]
        self.found["here"] = {one["name"]: one["value"] for one in outputs}
        return seconds

    def there(self) -> float:
        """Return the seconds of the whole process of dflow's program, the first that does not fail."""
        for _ in range(TRIES):
            seconds = self._there_once()
            if seconds is not None:
                return seconds
            self.failed_there += 1
        sys.exit(f"dflow's program failed {TRIES} times: {self.last_words}")

    def _there_once(self) -> float | None:
        """Return the seconds of the whole process of dflow's program; None if it fails."""
        before, started = _children_s(), time.perf_counter()
        folder = self._cwd / f"theirs-{time.monotonic_ns()}"
        folder.mkdir()
        done = subprocess.run(
            [str(self._python), "../theirs.py"], cwd=folder, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        self.cpu_s["there"] = _children_s() - before
        if done.returncode:
            self.last_words = done.stdout[-1000:] + done.stderr[-1000:]
            return None
        self.found["there"] = json.loads(done.stdout.splitlines()[-1])
        return seconds


def compare(cwd: Path, python: Path) -> None:
    """Measure both programs, and print their table."""
    squares, seconds = Squares(cwd, python), dict[str, list[float]](here=[], there=[])
    for _ in range(sized(ROUNDS, 1)):
        seconds["here"].append(squares.here())
        seconds["there"].append(squares.there())
    wanted = {"sum": sum(i * i for i in range(FUNCTIONS)), "values": [i * i for i in range(FUNCTIONS)]}
    if not squares.found["here"] == squares.found["there"] == wanted:
        sys.exit(f"the results differ: {squares.found}, not {wanted}")
    ratios = [there / here for here, there in zip(seconds["here"], seconds["there"], strict=True)]
    named = {"sflow-ctl": seconds["here"], "dflow, debug mode": seconds["there"]}
    notes = {
        "results": "the same",
        "dflow's runs that failed by themselves": squares.failed_there,
        "dflow / sflow-ctl, of each round": ", ".join(f"{one:.1f}" for one in ratios),
        "processor s of the last round": f"{squares.cpu_s['here']:.1f}, dflow {squares.cpu_s['there']:.1f}",
    }
    report("dflow.map_reduce", f"s for {FUNCTIONS} functions", named, notes)


def listed(kind: str, count: int) -> str:
    """Return a workflow with so many tasks that do nothing."""
    tasks = {
        "written": f"    t: {{foreach: {{count: {count}, max_items: {MANY}}}, script: 'true'}}\n",
        "late": f'    first: {{script: \'echo "{{\\"n\\": {count}}}" > $SFLOW_OUTPUTS_FILE\', outputs: {{n: {{type: int}}}}}}\n'
        "    t:\n"
        f"      foreach: {{items: '${{{{ range(task.first.outputs.n) | list }}}}', max_items: {MANY}}}\n"
        "      script: 'true'\n",
        "replicas": f"    t: {{replicas: {{count: {count}}}, script: 'true'}}\n",
    }
    return f'version: "0.1"\nworkflow:\n  name: lists\n  tasks:\n{tasks[kind]}'


def cost_ms(cwd: Path, kind: str, count: int) -> float:
    """Return the milliseconds of processor time, of all processes, for one of so many tasks."""
    before = _children_s()
    run_workflow(listed(kind, count), cwd, "-q", "--max-running", "64")
    return (_children_s() - before) * 1000 / count


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def lists(cwd: Path) -> None:
    """Measure what an item costs, and print the table."""
    kinds = ("written", "late", "replicas")
    results: dict[str, list[float]] = {}
    for _ in range(sized(ROUNDS, 1)):  # minutes each, so no round is for warming up
        for kind in kinds:
            for count in (FEW, MANY):
                results.setdefault(f"{kind}, {count}", []).append(cost_ms(cwd, kind, count))
    ratios = {kind: median(results[f"{kind}, {MANY}"]) / median(results[f"{kind}, {FEW}"]) for kind in kinds}
    notes = {f"{kind}, {MANY} over {FEW}": round(ratio, 2) for kind, ratio in ratios.items()}
    report("dflow.lists", "processor ms of an item", results, notes)


def main() -> int:
    """Print both tables."""
    given = sys.argv[1:2]
    if given and not Path(given[0]).is_file():
        sys.exit(__doc__)
    try:
        python = Path(given[0]).absolute() if given else environment(VERSION, "pydflow")
    except NotInstalledError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    for part in (functools.partial(compare, python=python), lists):
        with scratch() as cwd:
            part(cwd)
    return 0


if __name__ == "__main__":
    sys.exit(main())
