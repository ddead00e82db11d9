"""The command line of a real job step."""

import subprocess

import pytest

from sflow_ctl.format.schema import Operator
from sflow_ctl.plan.assignment import assigned_argv
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.launch.srun import Step, srun_command

NODES = [
    PlannedNode(index=n, backend="p", backend_index=n, name=f"n{n}", address="", gpus=4) for n in range(2)
]


def argv(**fields: object) -> list[str]:
    """The command of a step on two nodes, without the parts that never change."""
    operator = Operator(name="o", type="srun", **fields)  # type: ignore[arg-type]
    step = Step(task="t_1", job_id="7", nodes=("n0", "n1"), node_count=2, mounts=("/ws:/ws:rw",))
    whole, assigned = srun_command(operator, step, "x")
    assert [one.value for one in assigned] == ([] if operator.nodelist else ["node_names"])
    assert assigned_argv(whole, assigned, NODES) == whole, "filled in for the planned nodes, nothing changes"
    assert whole[0] == "srun"
    assert whole[-3:] == ("bash", "-c", PLACE + "x")
    return list(whole[1:-3])


DEFAULTS_TAIL = "--job-name t_1 --export ALL --label --overlap"
PLACE = (
    "export SFLOW_RANK=$SLURM_PROCID SFLOW_LOCAL_RANK=$SLURM_LOCALID SFLOW_NODE_RANK=$SLURM_NODEID "
    "SFLOW_WORLD_SIZE=$SLURM_STEP_NUM_TASKS SFLOW_TASK_PROCESS_ID=$SLURM_PROCID "
    "SFLOW_TASK_LOCAL_PROCESS_ID=$SLURM_LOCALID SFLOW_TASK_NODE_INDEX=$SLURM_NODEID "
    "SFLOW_TASK_NUM_PROCESSES=$SLURM_STEP_NUM_TASKS SFLOW_TASK_NODE_NAME=$SLURMD_NODENAME "
    "SFLOW_BACKEND_STEP_ID=$SLURM_STEP_ID; "
)


@pytest.mark.parametrize(
    ("fields", "nodes", "is_labelled"),
    [
        ({}, ("n0",), False),
        ({"ntasks": 1}, ("n0", "n1"), False),
        ({"ntasks": "1"}, ("n0",), False),
        ({"ntasks_per_node": 1}, ("n0",), False),
        ({}, ("n0", "n1"), True),
        ({"ntasks": 2}, ("n0",), True),
        ({"ntasks_per_node": 4}, ("n0",), True),
        ({"nodes": 3}, ("n0",), True),
        ({"gpus_per_task": 1}, ("n0",), True),
        ({"extra_args": ["-n8"]}, ("n0",), True),
        ({"extra_args": ["--ntasks=8"]}, ("n0",), True),
        ({"label": True}, ("n0",), True),
        ({"label": False, "ntasks": 2}, ("n0",), False),
    ],
)
def test_p7_only_steps_of_several_processes_have_labels_and_no_step_is_unbuffered(
    fields: dict[str, object], nodes: tuple[str, ...], is_labelled: bool
) -> None:
    operator = Operator(name="o", type="srun", **fields)  # type: ignore[arg-type]
    given, _ = srun_command(operator, Step(task="t", job_id="7", nodes=nodes, node_count=len(nodes)), "x")
    assert ("--label" in given) is is_labelled
    assert "--unbuffered" not in given


def test_clusters_f9_unbuffered_output_is_a_choice() -> None:
    assert "--unbuffered" not in argv()
    assert "--unbuffered" in argv(unbuffered=True)


def test_clusters_f11_each_process_of_a_step_finds_its_own_place() -> None:
    operator = Operator(name="o", type="srun")
    given, _ = srun_command(
        operator, Step(task="t", job_id="7", nodes=("n0",), node_count=1), 'echo "$SFLOW_RANK"'
    )
    place = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_NUM_TASKS": "4"}
    script = given[-1] + '; echo "$SFLOW_LOCAL_RANK $SFLOW_NODE_RANK $SFLOW_WORLD_SIZE"'
    printed = subprocess.run(
        ["bash", "-c", script], env={**place, "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert printed.stdout.split() == [b"3", b"1", b"1", b"4"]


def test_defaults() -> None:
    assert argv() == f"--jobid 7 --nodes 2 --nodelist n0,n1 {DEFAULTS_TAIL}".split()


@pytest.mark.parametrize(
    ("fields", "geometry"),
    [
        ({"ntasks": 1}, "--nodes 1 --nodelist n0 --ntasks 1"),
        ({"ntasks": "1"}, "--nodes 1 --nodelist n0 --ntasks 1"),
        ({"ntasks": 2}, "--nodes 2 --nodelist n0,n1 --ntasks 2"),
        ({"ntasks": 5}, "--nodes 2 --nodelist n0,n1 --ntasks 5"),
        ({"ntasks": 1, "nodes": 2}, "--nodes 1 --nodelist n0 --ntasks 1"),
        ({"ntasks": 2, "nodelist": ["x[1-3]"]}, "--nodes 2 --nodelist x1,x2 --ntasks 2"),
        ({"ntasks": 1, "ntasks_per_node": 1}, "--nodes 1 --nodelist n0 --ntasks 1 --ntasks-per-node 1"),
        ({"nodelist": ["x[1-2]", "y"]}, "--nodes 3 --nodelist x1,x2,y"),
    ],
)
def test_a_step_has_no_nodes_without_a_process(fields: dict[str, object], geometry: str) -> None:
    """Slurm 24.11 refuses them; older versions leave the last ones out."""
    assert f" {geometry} --job-name" in " ".join(argv(**fields))


def test_nodes_that_are_not_known_yet_are_limited_to_those_with_a_process() -> None:
    operator = Operator(name="o", type="srun", ntasks=1)
    words, arguments = srun_command(operator, Step(task="t", job_id="7", nodes=(), node_count=2), "x")
    assert "--nodes 1 --nodelist n0 --ntasks 1" in " ".join(assigned_argv(words, arguments, NODES))


def test_every_option_in_the_order_of_the_format() -> None:
    given = argv(
        job_id="9", partition="p", account="a", qos="q", reservation="r", time=5, constraint="c", exclusive=True,
        chdir="/d", nodes=1, nodelist=["n1"], ntasks=4, ntasks_per_node=2, cpus_per_task=3, gpus=1, gpus_per_task=1,
        gres="g", mem=0, mem_per_cpu=1, unbuffered=False, export="A", label=False, kill_on_bad_exit=True,
        overlap="false", wait=0, mpi="pmix",
    )  # fmt: skip
    assert " ".join(given) == (
        "--jobid 9 --partition p --account a --qos q --reservation r --time 5 --constraint c --exclusive --chdir /d "
        "--nodes 1 --nodelist n1 --ntasks 4 --ntasks-per-node 2 --cpus-per-task 3 --gpus 1 --gpus-per-task 1 --gres g "
        "--mem 0 --mem-per-cpu 1 --job-name t_1 --export A --kill-on-bad-exit --wait 0 --mpi pmix"
    )


def test_container_options_only_with_a_container() -> None:
    given = " ".join(argv(container_image="i.sqsh", container_mounts=["/a:/b"], container_remap_root=True))
    assert given.endswith(
        "--container-image i.sqsh --no-container-mount-home --container-writable "
        "--container-mounts /a:/b,/ws:/ws:rw --container-remap-root"
    )
    assert "container" not in " ".join(argv(container_mount_home=True))


def test_an_image_and_a_name_may_both_be_given() -> None:
    given = argv(container_image="i", container_name="n", container_mount_home=True, container_writable=False)
    assert given[-7:-2] == ["--container-image", "i", "--container-mount-home", "--container-name", "n"]


def test_extra_args_are_verbatim_and_their_mounts_join_the_others() -> None:
    given = argv(
        extra_args=["-x", "1", "-y", "1", "--container-image=i", "--container-mounts", "/c:/c,/d:/d"]
    )
    assert given[-5:] == ["-x", "1", "-y", "1", "--container-image=i"]
    assert given[given.index("--container-mounts") + 1] == "/c:/c,/d:/d,/ws:/ws:rw"
    assert given.count("--container-mounts") == 1


def test_mounts_without_a_value_are_refused() -> None:
    with pytest.raises(UnplannableError) as raised:
        argv(extra_args=["--container-mounts"])
    assert raised.value.code == "wrong-operator"


def own_gpus(**fields: object) -> str:
    """The script of a step of a task that has GPUs."""
    operator = Operator(name="o", type="srun", **fields)  # type: ignore[arg-type]
    step = Step(task="t", job_id="7", nodes=("n",), node_count=1, has_gpus=True)
    given, _ = srun_command(operator, step, "echo $CUDA_VISIBLE_DEVICES")
    assert given[-3:-1] == ("bash", "-c")
    return given[-1]


@pytest.mark.parametrize(
    ("given", "wanted", "seen"),
    [
        ("0,1,2,3", "2,3", "2,3"),
        ("4,5,6,7", "0,3", "4,7"),
        ("GPU-a,MIG-b", "1", "MIG-b"),
        ("0", "0", "0"),
        ("4,5", "0,2", "4,5"),  # not the job's GPUs: somebody has chosen otherwise
    ],
)
def test_a_step_takes_its_slice_of_slurms_gpus(given: str, wanted: str, seen: str) -> None:
    variables = {"CUDA_VISIBLE_DEVICES": given, "SFLOW_TASK_GPUS": wanted, "SLURM_STEP_GPUS": "0"}
    assert shell(own_gpus(), variables) == seen


def test_a_step_whose_gpus_slurm_does_not_name_keeps_the_agents_words() -> None:
    assert shell(own_gpus(), {"CUDA_VISIBLE_DEVICES": "2", "SFLOW_TASK_GPUS": "0"}) == "2"


@pytest.mark.parametrize(
    "fields", [{"gres": "gpu:1"}, {"gpus": 1}, {"gpus_per_task": 1}, {"extra_args": ["--gpu-bind=map_gpu:1"]}]
)
def test_an_operator_that_asks_slurm_for_gpus_leaves_the_choice_to_it(fields: dict[str, object]) -> None:
    assert own_gpus(**fields) == PLACE + "echo $CUDA_VISIBLE_DEVICES"


def shell(script: str, variables: dict[str, str]) -> str:
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


def test_nodes_that_were_not_known_when_planning_are_filled_in() -> None:
    operator = Operator(name="o", type="srun", mpi="pmix")
    nodes = [
        PlannedNode(index=n, backend="p", backend_index=n, name=f"n{n}", address="", gpus=4, het_group=1)
        for n in range(2)
    ]
    argv, arguments = srun_command(operator, Step(task="t", job_id="7", nodes=(), node_count=2), "x")
    assert "--jobid 7 --nodes 2 --nodelist n0,n1 --job-name" in " ".join(
        assigned_argv(argv, arguments, nodes)
    )
    alone = Step(task="t", job_id="7", nodes=(), node_count=1, het_groups=("0", "1"))
    argv, arguments = srun_command(operator, alone, "x")
    words = " ".join(assigned_argv(argv, arguments, nodes[1:]))
    assert "--jobid 7 --het-group 1 --nodes 1 --nodelist n1" in words
    assert "chosen" not in words
