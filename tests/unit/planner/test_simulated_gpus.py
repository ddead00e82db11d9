"""GPUs that are only simulated are said."""

from pathlib import Path

import pytest

from sflow_ctl.plan.gpu_checks import simulated
from tests.unit.planner.planning import plan_of

TASK = "workflow: {name: w, tasks: [{name: t, script: [x]%s}]}\n"
JOB = frozenset(("account", "partition"))


@pytest.mark.parametrize(
    ("backend", "resources", "has_driver", "is_asked_for", "count", "said"),
    [
        ("", "gpus: 1", False, False, 1, "no NVIDIA driver here: 1 GPU is simulated"),
        ("", "gpus: 2", False, False, 2, "no NVIDIA driver here: 2 GPUs are simulated"),
        ("", "gpus: 1", True, False, 0, None),
        ("", "gpus: 1", True, True, 1, None),
        ("", "gpus: 1", False, True, 1, None),
        ("", "nodes: 1", False, False, 0, None),
        ("{type: local, gpus_per_node: 4}", "gpus: 1", False, False, 4, "4 GPUs are simulated"),
        ("{type: local, gpus_per_node: 4}", "nodes: 1", False, False, 0, None),
        (
            "{type: local, nodes: 2, gpus_per_node: 4}",
            "gpus: 8",
            True,
            False,
            8,
            "2 agents share this machine: 8 GPUs are simulated",
        ),
        ("{type: slurm, nodes: 2, gpus_per_node: 4, time: 5}", "gpus: 8", False, False, 0, None),
    ],
)
def test_ux_10_simulated_gpus_are_counted_and_warned_of(
    tmp_path: Path,
    backend: str,
    resources: str,
    has_driver: bool,
    is_asked_for: bool,
    count: int,
    said: str | None,
) -> None:
    text = (f"backends: {{b: {backend}}}\n" if backend else "") + TASK % f", resources: {{{resources}}}"
    found, warning = simulated(
        plan_of(tmp_path, text, given=JOB), has_driver=has_driver, is_asked_for=is_asked_for
    )
    assert found == count
    assert (warning is None) == (said is None)
    if warning is not None and said is not None:
        assert warning.code == "simulated-gpus"
        assert said in warning.what
