"""Compares a map and reduce over small Python functions with the debug mode of dflow, and what an item of a list costs here.

`python -m bench.dflow [functions|lists|sizes]`: all of it without a word. A release of pydflow is installed into an environment
of the user's cache, which is first on PATH for both: functions run with its interpreter here as there.

* `functions`: both square the same numbers and add them up, in turn, and must find the same.
* `lists`: few and many items, written and late, beside as many replicas: the processor time of one must not grow with them.
* `sizes`: the same for functions with an input and an output each.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import median, report, run_workflow, scratch, sized
from sflow_ctl.runtime.record import layout
from tests.conformance.reference.install import NotInstalledError, environment

VERSION = "1.8.134"
FUNCTIONS = sized(500, 3)
SIZES = sized((500, 5_000, 20_000), (3, 5, 10))
ROUNDS = 2
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
        key="square-{{{{item}}}}",  # without one, slices read a common file that others are writing, and some fail
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

    def here(self) -> float:
        """Return the seconds of our whole process."""
        before = _children_s()
        seconds, directory = run_workflow(OURS.format(count=FUNCTIONS, workers=WORKERS), self._cwd, "-q")
        self.cpu_s["here"] = _children_s() - before
        outputs = json.loads((directory / layout.OUTPUTS).read_bytes())["outputs"]
        self.found["here"] = {one["name"]: one["value"] for one in outputs}
        return seconds

    def there(self) -> float:
        """Return the seconds of the whole process of dflow's program."""
        before, started = _children_s(), time.perf_counter()
        folder = self._cwd / f"theirs-{time.monotonic_ns()}"
        folder.mkdir()
        done = subprocess.run(
            [str(self._python), "../theirs.py"], cwd=folder, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        self.cpu_s["there"] = _children_s() - before
        if done.returncode:
            sys.exit(f"dflow's program failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        self.found["there"] = json.loads(done.stdout.splitlines()[-1])
        return seconds


def compare(cwd: Path, python: Path) -> None:
    """Measure both programs, and print their table. dflow's takes minutes, so its one run has two of ours around it."""
    squares, seconds = Squares(cwd, python), dict[str, list[float]](here=[], there=[])
    seconds["here"].append(squares.here())
    seconds["there"].append(squares.there())
    seconds["here"].append(squares.here())
    wanted = {"sum": sum(i * i for i in range(FUNCTIONS)), "values": [i * i for i in range(FUNCTIONS)]}
    if not squares.found["here"] == squares.found["there"] == wanted:
        sys.exit(f"the results differ: {squares.found}, not {wanted}")
    ratios = [there / here for here in seconds["here"] for there in seconds["there"]]
    named = {"sflow-ctl": seconds["here"], "dflow, debug mode": seconds["there"]}
    notes = {
        "results": "the same",
        "dflow / sflow-ctl": ", ".join(f"{one:.1f}" for one in ratios),
        "processor s of the last round": f"{squares.cpu_s['here']:.1f}, dflow {squares.cpu_s['there']:.1f}",
    }
    report("dflow.map_reduce", f"s for {FUNCTIONS} functions", named, notes)


def listed(kind: str, count: int) -> str:
    """Return a workflow with so many tasks that do nothing."""
    limit = f"max_items: {SIZES[-1]}"
    tasks = {
        "written": f"    t: {{foreach: {{count: {count}, {limit}}}, script: 'true'}}\n",
        "late": f'    first: {{script: \'echo "{{\\"n\\": {count}}}" > $SFLOW_OUTPUTS_FILE\', outputs: {{n: {{type: int}}}}}}\n'
        "    t:\n"
        f"      foreach: {{items: '${{{{ range(task.first.outputs.n) | list }}}}', {limit}}}\n"
        "      script: 'true'\n",
        "replicas": f"    t: {{replicas: {{count: {count}}}, script: 'true'}}\n",
    }
    return f'version: "0.1"\nworkflow:\n  name: lists\n  tasks:\n{tasks[kind]}'


def list_ms(cwd: Path, kind: str, count: int) -> float:
    """Return the milliseconds of processor time, of all processes, for one of so many tasks."""
    before = _children_s()
    run_workflow(listed(kind, count), cwd, "-q", "--max-running", "64")
    return (_children_s() - before) * 1000 / count


def function_ms(cwd: Path, _kind: str, count: int) -> float:
    """Return the same for functions."""
    before = _children_s()
    (cwd / "functions.py").write_text(FUNCTIONS_FILE)
    text = OURS.format(count=count, workers=WORKERS).replace("{count:", f"{{max_items: {count}, count:")
    run_workflow(text, cwd, "-q")
    return (_children_s() - before) * 1000 / count


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def grown(
    name: str, cwd: Path, kinds: tuple[str, ...], rounds: int, measure: Callable[[Path, str, int], float]
) -> None:
    """Measure what one of few and of many costs, and print the table."""
    results: dict[str, list[float]] = {}
    for _ in range(sized(rounds, 1)):  # minutes each, so no round is for warming up
        for kind in kinds:
            for count in SIZES:
                results.setdefault(f"{kind}, {count}", []).append(measure(cwd, kind, count))
    few, many = SIZES[0], SIZES[-1]
    ratios = {kind: median(results[f"{kind}, {many}"]) / median(results[f"{kind}, {few}"]) for kind in kinds}
    notes = {f"{kind}, {many} over {few}": round(ratio, 2) for kind, ratio in ratios.items()}
    report(name, "processor ms of an item", results, notes)


def main() -> int:
    """Print the tables."""
    parts = ("functions", "lists", "sizes")
    chosen = sys.argv[1:] or parts
    if not set(chosen) <= set(parts):
        sys.exit(__doc__)
    try:
        python = environment(VERSION, "pydflow")
    except NotInstalledError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    os.environ["PATH"] = f"{python.parent}:{os.environ['PATH']}"
    for part in chosen:
        with scratch() as cwd:
            if part == "functions":
                compare(cwd, python)
            elif part == "lists":
                grown("dflow.lists", cwd, ("written", "late", "replicas"), ROUNDS, list_ms)
            else:
                grown("dflow.sizes", cwd, ("functions",), 1, function_ms)
    return 0


if __name__ == "__main__":
    sys.exit(main())
