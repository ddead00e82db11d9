"""Waiting for GPUs that other processes use, with a clock and answers of our own."""

import json
import math
import subprocess
import sys
from collections.abc import Sequence

import pytest

from protocol.errors import LaunchError
from protocol.messages.node import Gpu, GpuUser
from sflow_ctl.plan.model import Plan, PlannedNode
from sflow_ctl.plan.parts.engine_host import EngineHost
from sflow_ctl.runtime.idle_gpus import ASK_EVERY_S, wait_of, wait_until_idle
from sflow_ctl.runtime.run.options import FleetOptions

FREE = Gpu(index=0, uuid="GPU-a")
BUSY = Gpu(
    index=0, uuid="GPU-a", users=(GpuUser(pid=7, program="python", owner="eve", memory_bytes=1 << 31),)
)
OTHER = Gpu(index=1, uuid="GPU-b", users=BUSY.users)


def node(gpus: int | None = 1, wait: int | None = None, *, is_far: bool = False) -> PlannedNode:
    host = EngineHost(context="c") if is_far else None
    return PlannedNode(
        index=0,
        backend="b",
        backend_index=0,
        name="here",
        address="",
        gpus=gpus,
        wait_for_gpus=wait,
        engine_host=host,
    )


class Time:
    """A clock that only rests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def rest(self, seconds: float) -> None:
        self.now += seconds


def waited(given: Sequence[Sequence[Gpu]], within_s: float) -> tuple[float, list[str]]:
    """Return how long the wait took, and what was said; the last answer is repeated."""
    time, said, answers = Time(), list[str](), list(given)

    def ask() -> Sequence[Gpu]:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    wait_until_idle(node(), within_s, said.append, ask, lambda: time.now, time.rest)
    return time.now - 100.0, said


def test_idle_gpus_are_not_waited_for() -> None:
    assert waited([[FREE, OTHER]], 60) == (0.0, [])  # the other one is not the run's
    assert waited([[]], 60) == (0.0, [])


def test_the_wait_ends_when_the_last_process_has_left() -> None:
    took, said = waited([[BUSY], [BUSY], [FREE]], math.inf)
    assert took == 2 * ASK_EVERY_S
    (line,) = said
    assert line.startswith("waiting for GPUs of here: GPU 0 is in use: ")
    assert "7" in line


def test_the_wait_ends_with_an_error_after_its_time() -> None:
    with pytest.raises(LaunchError) as raised:
        waited([[BUSY]], 5)
    (finding,) = raised.value.findings
    assert finding.code == "gpus-in-use"
    assert "after 5 s GPU 0 is in use" in finding.what
    assert raised.value.exit_status == 3


def test_a_long_wait_is_said_once_a_minute() -> None:
    _, said = waited([[BUSY]] * 60 + [[FREE]], math.inf)
    assert len(said) == 2


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([node(wait=9)], FleetOptions(), 9),
        ([node(wait=0)], FleetOptions(), math.inf),
        ([node(wait=9)], FleetOptions(wait_for_gpus=0), math.inf),
        ([node()], FleetOptions(wait_for_gpus=3), 3),
        ([node(), node(is_far=True)], FleetOptions(wait_for_gpus=3), 3),
        ([node()], FleetOptions(), None),
        ([node(), node()], FleetOptions(wait_for_gpus=3), None),  # their GPUs are simulated
        ([node(gpus=0)], FleetOptions(wait_for_gpus=3), None),
        ([node()], FleetOptions(wait_for_gpus=3, simulate_gpus=True), None),
    ],
)
def test_who_waits_and_how_long(
    nodes: list[PlannedNode], options: FleetOptions, expected: float | None
) -> None:
    asked = wait_of(Plan(workflow="w", tasks=(), nodes=tuple(nodes)), options)
    assert (None if asked is None else asked[1]) == expected


def test_the_program_that_is_asked_prints_gpus() -> None:
    done = subprocess.run(
        (sys.executable, "-I", "-m", "sflow_agent.node.gpus_now"), capture_output=True, text=True, check=True
    )
    assert isinstance(json.loads(done.stdout), list)
