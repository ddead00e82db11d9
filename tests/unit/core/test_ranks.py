"""What ranks find in their environment."""

import msgspec

from sflow_ctl.core.ranks import rank_environments
from sflow_ctl.planner.geometry import STEP_VARIABLES
from sflow_ctl.planner.plan import PlannedNode
from tests.unit.core.plans import a_task

NODES = [
    PlannedNode(index=n, backend="p", backend_index=n, name=f"n{n}", address=f"10.0.0.{n}", gpus=None)
    for n in range(2)
]


def test_the_variables_of_a_step_are_those_that_others_pass_on() -> None:
    task = msgspec.structs.replace(a_task("t", ranks_per_node=(2, 1)), has_step_variables=True)
    ranks = rank_environments(task, NODES, {}, "7")
    for env in ranks:
        assert {name for name in env if name.startswith("SLURM")} == set(STEP_VARIABLES)
    assert [(env["SLURM_PROCID"], env["SLURM_LOCALID"], env["SLURM_NODEID"]) for env in ranks] == [
        ("0", "0", "0"),
        ("1", "1", "0"),
        ("2", "0", "1"),
    ]
    assert {env["SLURM_JOB_ID"] for env in ranks} == {"7"}


def test_others_have_only_their_own_names() -> None:
    (env,) = rank_environments(a_task("t"), NODES[:1], {}, "7")
    assert not [name for name in env if name.startswith("SLURM")]
    assert (env["SFLOW_RANK"], env["SFLOW_WORLD_SIZE"], env["SFLOW_MASTER_ADDR"]) == ("0", "1", "10.0.0.0")
