"""Slices of GPUs in terms of what the agent itself was given."""

import pytest

from protocol.messages import Gpu
from sflow_agent.core.gpu_slice import visible_devices
from sflow_agent.runtime.telemetry import select_visible


@pytest.mark.parametrize(
    ("wanted", "inherited", "expected"),
    [
        ("0,1", None, "0,1"),
        ("0,1", "", "0,1"),
        ("1", "2,3", "3"),
        ("0", "MIG-abc, MIG-def", "MIG-abc"),
        ("5", "2,3", "5"),
        ("GPU-1", "2,3", "GPU-1"),
    ],
)
def test_a_slice_is_translated_once(wanted: str, inherited: str | None, expected: str) -> None:
    assert visible_devices(wanted, inherited) == expected


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, ["GPU-aa", "GPU-ab", "GPU-b"]),
        ("2,0", ["GPU-b", "GPU-aa"]),
        ("GPU-b,0", ["GPU-b", "GPU-aa"]),
        ("0,9,1", ["GPU-aa"]),
        ("GPU-a", []),
        ("0,0", ["GPU-aa"]),
        ("", []),
    ],
)
def test_what_cuda_would_see(variable: str | None, expected: list[str]) -> None:
    gpus = tuple(Gpu(index=index, uuid=uuid) for index, uuid in enumerate(["GPU-aa", "GPU-ab", "GPU-b"]))
    visible = select_visible(gpus, variable)
    assert [gpu.uuid for gpu in visible] == expected
    assert [gpu.index for gpu in visible] == list(range(len(visible)))
