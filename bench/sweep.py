"""Planning a sweep of 10,000 cells of a workflow of 4 tasks: seconds and memory of a whole process, plain and with expressions.

Also a million points, which are refused or truncated.
"""

import resource
from functools import partial
from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, report, scratch, seconds, sized


def workflow(side: int, *, has_expressions: bool, more: str = "") -> str:
    """A chain of four tasks over side x side cells."""
    values = ", ".join(map(str, range(side)))
    lr, wd = ("${{ lr }}", "${{ variables.wd }}") if has_expressions else ("$lr", "$wd")
    lines = [
        'version: "0.1"',
        "variables: {lr: 0, wd: 0}",
        f"sweep: {{axes: {{lr: [{values}], wd: [{values}]}}{more}}}",
        "workflow:",
        "  name: cells",
        "  tasks:",
    ]
    before = ""
    for name in ("prepare", "train", "evaluate", "pack"):
        lines += [f"    - name: {name}", f'      script: ["{name} --lr {lr} --wd {wd}"]']
        lines += [f"      depends_on: [{before}]"] if before else []
        before = name
    return "\n".join(lines) + "\n"


def main() -> None:
    """Seconds of `validate` of a whole process, which plans and prints nothing else, and its largest memory."""
    side = sized(100, 10)
    with scratch() as cwd:
        texts = {
            "plain": workflow(side, has_expressions=False),
            "expressions": workflow(side, has_expressions=True),
            "a million, truncated": workflow(1000, has_expressions=False, more=", max_runs: 100"),
        }
        for name, text in texts.items():
            Path(cwd / f"{name}.yaml").write_text(text)

        def validate(name: str) -> float:
            return seconds([*SFLOW_CTL, "validate", Path(cwd / f"{name}.yaml")], cwd)

        results = interleaved({name: partial(validate, name) for name in texts}, 3)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    report("sweep", "s", {**results, "largest memory in MB": [float(largest)]})


if __name__ == "__main__":
    main()
