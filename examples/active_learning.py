"""Active learning from Python: train several small models, label where they disagree most, repeat until they agree.

`python active_learning.py` runs it and prints the result; options are those of `sflow-ctl run`. `sflow-ctl run --resume RUN`
continues it after a crash, wherever it was. The same as `active_learning.yaml`; the functions are tasks, each in a process of
its own, on this machine or on the nodes of a job.
"""

import math
import random
import sys
from typing import NamedTuple

from sflow_ctl.api import Workflow, expression, last

MODELS, TOLERANCE = 4, 0.25
START = [[0.0, 0.0], [1.0, 0.8415], [2.0, 0.9093], [3.0, 0.1411]]


class Choice(NamedTuple):
    """Where to label next."""

    x: float
    spread: float
    """How much the models differ there."""


def train(number: int, points: list[list[float]]) -> list[float]:
    """Return what a model predicts, which lacks another point than the others."""
    chance = random.Random(f"{number} {len(points)}")
    known = sorted(chance.sample(points, max(2, len(points) - 1)))
    return [_between(known, x / 20) for x in range(61)]


def select(predictions: list[list[float]]) -> Choice:
    """Return the point at which models disagree most."""
    spreads = [max(values) - min(values) for values in zip(*predictions, strict=True)]
    best = max(range(len(spreads)), key=spreads.__getitem__)
    return Choice(best / 20, spreads[best])


def label(x: float, points: list[list[float]]) -> list[list[float]]:
    """Return the points with some around another one, as if an experiment had measured there."""
    return [*points, *([x + shift, math.sin(x + shift)] for shift in (-0.02, 0.0, 0.02))]


def _between(known: list[list[float]], x: float) -> float:
    left = max((one for one in known if one[0] <= x), default=known[0])
    right = min((one for one in known if one[0] >= x), default=known[-1])
    share = 0.0 if left[0] == right[0] else (x - left[0]) / (right[0] - left[0])
    return left[1] + share * (right[1] - left[1])


def workflow() -> Workflow:
    """Return the workflow."""
    wf = Workflow("active-learning")
    iterate = wf.block("iterate", points=list)
    points = iterate.input("points")
    models = iterate.map(train, {"number": list(range(MODELS))}, points=points)
    chosen = iterate.call(select, predictions=models.output())
    labelled = iterate.call(label, x=chosen.output("x"), points=points)
    iterate.outputs = {"points": labelled.output(), "spread": chosen.output("spread")}
    learned = wf.repeat(
        "learn",
        iterate,
        points=START,
        max_iterations=12,
        until=expression(f"spread < {TOLERANCE}", spread=last.output("spread")),
        carry={"points": last.output("points")},
        succeeds_at_limit=True,
    )
    wf.set_outputs(points=learned.output("points"), spread=learned.output("spread"))
    return wf


if __name__ == "__main__":
    run = workflow().run(options=sys.argv[1:])
    result = run.workflow_outputs()
    print(f"learned from {len(result['points'])} points, spread {result['spread']:.3f}")
