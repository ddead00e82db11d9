"""The one srun, and the node lists that go with it."""

import contextlib

import hypothesis
import hypothesis.strategies as st
import pytest

from sflow_ctl.core.nodelist import NodeListError, expand_nodelist
from sflow_ctl.core.step_command import slurm_version, step_argv, step_environment


def test_every_flag_has_its_value_in_the_same_word() -> None:
    argv = step_argv(
        ("agent",), job_id="7", nodes=3, gpus_on_node="4", version=(23, 11), no_kill=True, extra=("--x=1",)
    )
    assert argv[0] == "srun"
    assert {"--jobid=7", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--overlap", "--mem=0"} <= set(
        argv
    )
    assert {"--cpu-bind=none", "--mpi=none", "--wait=0", "--kill-on-bad-exit=0", "--input=none"} <= set(argv)
    assert {"--gres=gpu:4", "--external-launcher", "--no-kill"} <= set(argv)
    assert argv[-2:] == ("--x=1", "agent")
    assert all(word.startswith("--") for word in argv[1:-1])


def test_flags_that_a_job_or_a_version_lacks_are_not_there() -> None:
    argv = step_argv(("agent",), job_id="7", nodes=1, gpus_on_node=None, version=(22, 5))
    assert not [word for word in argv if "gres" in word or "external" in word or "no-kill" in word]


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_TRES_PER_TASK", "SLURM_CPU_BIND", "SLURM_CPUS_PER_TASK",
        "SRUN_CPUS_PER_TASK", "SLURM_EXPORT_ENV", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_MEM_PER_NODE",
        "SLURM_GPUS_PER_TASK", "SLURM_DISTRIBUTION", "SLURM_KILL_BAD_EXIT", "SLURM_WAIT", "SLURM_OVERCOMMIT",
        "SLURM_EXCLUSIVE", "SLURM_NNODES", "SLURM_GRES",
    ],
)  # fmt: skip
def test_what_srun_would_take_as_an_option_is_gone(name: str) -> None:
    assert step_environment({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_CONF", "SLURM_JOB_NODELIST", "SLURM_CLUSTER_NAME"])
def test_what_names_the_job_stays(name: str) -> None:
    assert name in step_environment({name: "x"})


@pytest.mark.parametrize(
    ("text", "version"), [("slurm 22.05.8", (22, 5)), ("slurm-wlm 23.11.4", (23, 11)), ("", None)]
)
def test_versions(text: str, version: tuple[int, int] | None) -> None:
    assert slurm_version(text) == version


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node1", ["node1"]),
        ("node[1-3]", ["node1", "node2", "node3"]),
        ("gpu[008-010,3],login", ["gpu008", "gpu009", "gpu010", "gpu3", "login"]),
        ("r[1-2]n[1,3]", ["r1n1", "r1n3", "r2n1", "r2n3"]),
        ("a[1-2]-ib,b", ["a1-ib", "a2-ib", "b"]),
    ],
)
def test_node_lists(text: str, names: list[str]) -> None:
    assert expand_nodelist(text) == names


@pytest.mark.parametrize("text", ["", "a[", "a]", "a[1-", "a[x]", "a,,b", "a[1-999999999]", "a b", "a[[1]]"])
def test_what_is_no_node_list_is_refused(text: str) -> None:
    with pytest.raises(NodeListError):
        expand_nodelist(text)


@hypothesis.given(st.lists(st.integers(0, 300), min_size=1, max_size=20, unique=True), st.integers(1, 4))
def test_any_numbers_come_back(numbers: list[int], width: int) -> None:
    names = [f"n{number:0{width}d}" for number in numbers]
    assert expand_nodelist(f"n[{','.join(name[1:] for name in names)}]") == names


@hypothesis.given(st.text(alphabet="ab[],-019 ", max_size=20))
def test_any_text_expands_or_is_refused(text: str) -> None:
    with contextlib.suppress(NodeListError):
        assert all(expand_nodelist(text))
