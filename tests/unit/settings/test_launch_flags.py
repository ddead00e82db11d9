"""Flags that may be added to the one srun, and flags that would break it."""

import pytest

from sflow_ctl.slurm.launch_flags import flag_problem
from sflow_ctl.slurm.step_command import StepPart, step_argv


@pytest.mark.parametrize(
    "flag",
    [
        "--network=sn_all",
        "--gres=gpu:h200:8",
        "--cpus-per-task=4",
        "--hint=nomultithread",
        "--comment=a b",
        "--resv-ports=2",
    ],
)
def test_flags_that_leave_it_the_one_step(flag: str) -> None:
    assert flag_problem(flag) is None


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("--ntasks=2", "one agent on each node"),
        ("--ntask=2", "one agent on each node"),  # srun takes it for --ntasks
        ("--nodel=n1", "one agent on each node"),
        ("--wait=30", "each agent ends by itself"),
        ("--overlap", "beside other steps"),
        ("--container-image=x", "agents run on the host"),
        ("--exp=NONE", "in the environment"),
        ("--gres=none", "hides the job's GPUs"),
        ("--gpus=0", "hides the job's GPUs"),
        ("--network", "has no value"),
        ("--network=", "is not of the form --key=value"),
        ("--network x", "is not of the form --key=value"),
        ("-n2", "is not of the form --key=value"),
        ("--Ntasks=2", "is not of the form --key=value"),
        ("bash", "is not of the form --key=value"),
        ("--network=x\n--ntasks=2", "is not of the form --key=value"),
    ],
)
def test_flags_that_would_break_the_one_step(flag: str, why: str) -> None:
    problem = flag_problem(flag)
    assert problem is not None
    assert why in problem[0]


def test_our_own_options_cannot_be_given_again() -> None:
    own = step_argv(
        ("agent",),
        job_id="1",
        parts=(StepPart(2, 1, ("a", "b")),),
        gpus_on_node=None,
        no_kill=True,
    )[1:-1]
    free = {"--job-name=sflow-agent"}  # a name means nothing
    assert [flag for flag in own if flag_problem(flag) is None and flag not in free] == []
