"""The environment of ranks."""

from typing import Literal

import msgspec
import pytest

from protocol.messages.rank_spec import LaunchKind
from sflow_ctl.core.model.ranks import rank_environments
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.plan.parts.engine_host import EngineHost
from sflow_ctl.plan.parts.launcher import Launcher
from sflow_ctl.planner.launch.geometry import STEP_VARIABLES
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


@pytest.mark.parametrize("kind", ["process", "step"])
def test_an_only_rank_has_what_it_would_have_among_others(kind: LaunchKind) -> None:
    task = msgspec.structs.replace(a_task("t"), launch_kind=kind)
    nowhere = msgspec.structs.replace(NODES[0], engine_host=EngineHost(), is_reachable=False)
    for node in (NODES[0], nowhere):
        of_another = {node.index: {"port of another": (1,)}}  # which is for the general way
        assert rank_environments(task, [node], {}, None) == rank_environments(task, [node], of_another, None)


def launched(kind: Literal["torchrun", "mpirun"], *nodes: PlannedNode, **env: str) -> list[dict[str, str]]:
    """What the ranks of a task find that has a launcher of three processes on each node."""
    task = msgspec.structs.replace(
        a_task("t", ranks_per_node=(1,) * len(nodes)), launcher=Launcher(kind=kind, processes=3), env=env
    )
    return rank_environments(task, nodes, {nodes[0].index: {"master": (4321,)}}, None)


def test_torchrun_has_its_options_on_each_node() -> None:
    ranks = launched("torchrun", *NODES[:2])
    assert [{name: value for name, value in env.items() if name.startswith("PET_")} for env in ranks] == [
        {
            "PET_NNODES": "2",
            "PET_NODE_RANK": rank,
            "PET_NPROC_PER_NODE": "3",
            "PET_MASTER_ADDR": NODES[0].address,
            "PET_MASTER_PORT": "4321",
        }
        for rank in ("0", "1")
    ]
    assert [env["SFLOW_NODE_IP"] for env in ranks] == [node.address for node in NODES[:2]]


def test_torchrun_wants_ipv6_in_brackets_and_the_tasks_own_variables_stay() -> None:
    (env,) = launched(
        "torchrun", msgspec.structs.replace(NODES[0], address="fd00::1"), PET_NPROC_PER_NODE="8"
    )
    assert env["PET_MASTER_ADDR"] == "[fd00::1]"
    assert env["SFLOW_MASTER_ADDR"] == env["SFLOW_NODE_IP"] == "fd00::1"
    assert "PET_NPROC_PER_NODE" not in env


def test_mpirun_gets_its_number_of_processes_and_stays_on_its_node() -> None:
    (env,) = launched("mpirun", NODES[0])
    assert env["SFLOW_NPROC"] == "3"
    assert env["HYDRA_LAUNCHER"] == "fork"
    assert env["OMPI_MCA_plm"] == "isolated"
    assert not any(name.startswith("PET_") for name in env)


def test_processes_of_slurm_do_not_get_the_address_of_a_node() -> None:
    task = msgspec.structs.replace(a_task("t"), argv=("srun", "hostname"), launch_kind="step")
    (env,) = rank_environments(task, NODES[:1], {}, "7")
    assert "SFLOW_NODE_IP" not in env
    assert "SFLOW_MASTER_ADDR" in env


def test_clusters_f11_what_slurm_decides_of_a_step_is_not_set_for_it() -> None:
    task = msgspec.structs.replace(a_task("t"), argv=("srun", "hostname"), launch_kind="step")
    (env,) = rank_environments(task, NODES[:1], {}, "7")
    assert not env.keys() & {"SFLOW_RANK", "SFLOW_LOCAL_RANK", "SFLOW_NODE_RANK", "SFLOW_WORLD_SIZE"}
