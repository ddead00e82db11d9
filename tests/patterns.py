"""Workflows as users of dflow have them: branches, a map with a failed slice, as many tasks as an output has entries.

Each has one task that waits for a file `go` in the workspace, so that a test can end the run's processes in the middle. What has
run is in the file `made`, a line for each start. Used by the tests of faults, and on a real Slurm.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEPS = """\
import os
import time


def begin(*, waits=False):
    with open("made", "a") as file:
        file.write(os.environ["SFLOW_TASK_NAME"] + "\\n")
    while waits and not os.path.exists("go"):
        time.sleep(0.05)


def check() -> float:
    begin()
    return 0.5


def branch(score: float, value: int) -> int:
    begin(waits=True)
    return value


def merge(value: int) -> int:
    begin()
    return value


def names() -> list:
    begin()
    return ["a", "bcd", "", "ef"]


def length(name: str) -> int:
    begin(waits=name == "ef")
    return len(name)


def square(number: int) -> int:
    begin(waits=number == 3)
    if number == 1:
        raise ValueError("this one fails")
    return number * number


def total(values: list) -> int:
    begin()
    return sum(one for one in values if one is not None)
"""

BRANCHES = """\
version: "0.1"
workflow:
  name: branches
  outputs: {chosen: end.outputs.value}
  tasks:
    check: {python: "steps.py:check", outputs: {score: {type: float}}}
    good:
      python: steps.py:branch
      inputs: {score: {from: check.outputs.score}, value: 0}
      when: ${{ inputs.score >= 0.5 and inputs.value == 0 }}
      outputs: {value: {type: int}}
    bad:
      python: steps.py:branch
      inputs: {score: {from: check.outputs.score}, value: 1}
      when: ${{ inputs.score < 0.5 }}
      outputs: {value: {type: int}}
    after_bad: {depends_on: bad, script: 'echo after_bad >> made'}
    end:
      python: steps.py:merge
      inputs: {value: {from: [good.outputs.value, bad.outputs.value], pick: first_available}}
      outputs: {value: {type: int}}
"""
MAP_REDUCE = """\
version: "0.1"
workflow:
  name: squares
  outputs: {values: square.outputs.value, sum: total.outputs.sum}
  tasks:
    square:
      foreach: {items: [0, 1, 2, 3], max_parallel: 2}
      python: steps.py:square
      inputs: {number: {value: "${{ item }}", type: int}}
      outputs: {value: {type: int}}
      success: {min_count: 3}
    total:
      python: steps.py:total
      inputs: {values: {from: square.outputs.value, type: list}}
      outputs: {sum: {type: int}}
"""
FAN_OUT = """\
version: "0.1"
workflow:
  name: fan-out
  outputs: {lengths: length.outputs.length, sum: total.outputs.sum}
  tasks:
    names: {python: "steps.py:names", outputs: {names: {type: list}}}
    length:
      foreach: ${{ task.names.outputs.names }}
      python: steps.py:length
      inputs: {name: {value: "${{ item }}", type: str}}
      outputs: {length: {type: int}}
    total:
      python: steps.py:total
      inputs: {values: {from: length.outputs.length, type: list}}
      outputs: {sum: {type: int}}
"""


@dataclass(frozen=True)
class Pattern:
    """A workflow, and what is known of its run."""

    workflow: str
    waiting: str
    """The task that waits for `go`."""
    runs: tuple[str, ...]
    """Tasks that run, of which the last needs the others."""
    outputs: dict[str, Any]
    skipped: dict[str, str]
    """Why each of the others does not: the word of its reason."""
    failed: str = ""
    """The task that fails without failing the run; a resumed run tries it again."""

    def is_all_else_done(self, states: Mapping[str, str]) -> bool:
        """Return whether all tasks have ended that need not wait for the one that does."""
        others = set(self.runs[:-1]) - {self.waiting}
        return all(states.get(one) in ("completed", "failed") for one in others)

    def write(self, place: Path) -> None:
        """Write the functions."""
        (place / "steps.py").write_text(STEPS)


PATTERNS = {
    "branches": Pattern(
        BRANCHES,
        "good",
        ("check", "good", "end"),
        {"chosen": 0},
        {"bad": "when", "after_bad": "upstream_skipped"},
    ),
    "map_reduce": Pattern(
        MAP_REDUCE,
        "square_3",
        ("square_0", "square_1", "square_2", "square_3", "total"),
        {"values": [0, None, 4, 9], "sum": 13},
        {},
        "square_1",
    ),
    "fan_out": Pattern(
        FAN_OUT,
        "length_3",
        ("names", "length_0", "length_1", "length_2", "length_3", "total"),
        {"lengths": [1, 3, 0, 2], "sum": 6},
        {},
    ),
}


def starts(place: Path) -> Counter[str]:
    """Return how often each task has run."""
    path = place / "made"
    return Counter(path.read_text().split() if path.exists() else ())


def expected_starts(pattern: Pattern, *, is_resumed: bool) -> Counter[str]:
    """Return how often each must have run: once, but what was cut off, or had failed, before a resume."""
    again = {pattern.waiting, pattern.failed} if is_resumed else set()
    return Counter({name: 1 + (name in again) for name in pattern.runs})
