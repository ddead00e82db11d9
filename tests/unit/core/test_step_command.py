"""The one srun, and the node lists that go with it."""

import contextlib
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from protocol.errors import AllocationError
from sflow_ctl.runtime.slurm.allocation import Allocation, allocation_of, ask, current_allocation, own_name
from sflow_ctl.slurm.nodelist import NodeListError, expand_nodelist
from sflow_ctl.slurm.step_command import StepPart, slurm_version, step_argv, step_environment


def test_f04_every_flag_has_its_value_in_the_same_word() -> None:
    parts = (StepPart(3, nodelist=("a", "b", "c")),)
    argv = step_argv(("agent",), job_id="7", parts=parts, gpus_on_node="4", no_kill=True)
    assert argv[0] == "srun"
    assert {"--jobid=7", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--overlap", "--mem=0"} <= set(
        argv
    )
    assert {"--cpu-bind=none", "--mpi=none", "--wait=0", "--kill-on-bad-exit=0", "--input=none"} <= set(argv)
    assert {"--gres=gpu:4", "--no-kill"} <= set(argv)
    assert "--nodelist=a,b,c" in argv
    assert argv[-1] == "agent"
    assert all(word.startswith("--") for word in argv[1:-1])


def test_f35_agents_do_not_share_the_end_of_a_lost_node() -> None:
    """`--external-launcher` would make `--no-kill` void on Slurm 24.11."""
    argv = step_argv(("agent",), job_id="7", parts=(StepPart(2),), gpus_on_node=None, no_kill=True)
    assert "--no-kill" in argv
    assert "--external-launcher" not in argv


def test_flags_that_a_job_lacks_are_not_there() -> None:
    argv = step_argv(("agent",), job_id="7", parts=(StepPart(1),), gpus_on_node=None)
    unwanted = ("gres", "external", "no-kill", "het-group", "nodelist")
    assert not [word for word in argv if any(part in word for part in unwanted)]


def test_components_of_a_heterogeneous_job_are_parts_of_one_step() -> None:
    parts = (StepPart(1, 0), StepPart(2, 2, ("c", "d")))
    argv = step_argv(("agent", "-x"), job_id="7", parts=parts, gpus_on_node=None)
    assert argv.count("srun") == 1
    colon = argv.index(":")
    first, second = argv[1:colon], argv[colon + 1 :]
    assert {"--jobid=7", "--het-group=0", "--nodes=1", "--ntasks=1", "--overlap"} <= set(first)
    assert {"--jobid=7", "--het-group=2", "--nodes=2", "--ntasks=2", "--nodelist=c,d", "--overlap"} <= set(
        second
    )
    assert first[-2:] == second[-2:] == ("agent", "-x")


JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_GPUS_ON_NODE": "4"}
HET = {
    "SLURM_HET_SIZE": "2",
    "SLURM_JOB_NODELIST_HET_GROUP_0": "n1",
    "SLURM_JOB_NODELIST_HET_GROUP_1": "m[1-2]",
}


def allocation(components: tuple[tuple[str, ...], ...]) -> Allocation:
    return Allocation(job_id="7", components=components, gpus_on_node=None, ends_at=None)


def test_a_step_on_some_nodes_names_them_where_a_component_has_more() -> None:
    het = allocation((("a",), ("b", "c"), ("d",)))
    assert het.step_parts({"a", "c"}) == (StepPart(1, 0), StepPart(1, 1, ("c",)))
    plain = allocation((("a", "b"),))
    assert plain.step_parts({"a", "b"}) == (StepPart(2),)
    assert plain.step_parts({"b"}) == (StepPart(1, nodelist=("b",)),)


def test_nodes_are_known_component_by_component() -> None:
    het = allocation((("b",), ("a", "c")))
    assert [(node.name, node.het_group) for node in het.nodes] == [("b", 0), ("a", 1), ("c", 1)]
    assert [node.het_group for node in allocation((("b", "a"),)).nodes] == [None, None]


def test_components_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no Slurm is asked
    plain = current_allocation(JOB)
    assert plain is not None
    assert plain.components == (("n1", "n2", "n3"),)
    assert plain.gpus_on_node == "4"
    het = current_allocation({**JOB, **HET, "SLURM_JOB_NODELIST": "n1"})
    assert het is not None
    assert het.components == (("n1",), ("m1", "m2"))
    assert het.gpus_on_node is None
    with_salloc = current_allocation({"SLURM_JOB_ID": "7", **HET})
    assert with_salloc is not None
    assert with_salloc.components == het.components
    with pytest.raises(AllocationError, match="HET_GROUP_1 is not set"):
        current_allocation({**JOB, **HET, "SLURM_JOB_NODELIST_HET_GROUP_1": ""})


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_TRES_PER_TASK", "SLURM_CPU_BIND", "SLURM_CPUS_PER_TASK",
        "SRUN_CPUS_PER_TASK", "SLURM_EXPORT_ENV", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_MEM_PER_NODE",
        "SLURM_GPUS_PER_TASK", "SLURM_DISTRIBUTION", "SLURM_KILL_BAD_EXIT", "SLURM_WAIT", "SLURM_OVERCOMMIT",
        "SLURM_EXCLUSIVE", "SLURM_NNODES", "SLURM_GRES", "SLURM_HOSTFILE",
    ],
)  # fmt: skip
def test_f04_variables_that_srun_reads_as_options_are_removed(name: str) -> None:
    assert step_environment({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_p6_a_file_of_hosts_does_not_place_the_agents() -> None:
    assert step_environment({"SLURM_HOSTFILE": "hosts", "SLURM_JOB_ID": "7"}) == {"SLURM_JOB_ID": "7"}


def test_public_06_components_of_another_job_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    foreign = {**JOB, **HET, "SLURM_JOB_ID_HET_GROUP_0": "70", "SLURM_JOB_ID_HET_GROUP_1": "71"}
    for environ in (foreign, {**JOB, "SLURM_HET_SIZE": "2"}):
        plain = current_allocation(environ)
        assert plain is not None
        assert plain.components == (("n1", "n2", "n3"),)
    own = current_allocation({**foreign, "SLURM_JOB_ID_HET_GROUP_0": JOB["SLURM_JOB_ID"]})
    assert own is not None
    assert own.components == (("n1",), ("m1", "m2"))


def test_p8_an_element_of_an_array_asks_for_itself() -> None:
    array = {"SLURM_JOB_ID": "70", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "1"}
    assert own_name("70", array) == "70_1"
    assert own_name("8", array) == "8"
    assert own_name("7", JOB) == "7"


def test_p8_an_array_is_not_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "squeue"
    program.write_text("#!/bin/sh\necho '70_0|RUNNING|n1'; echo '70_1|RUNNING|n2'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AllocationError, match="70 is an array"):
        allocation_of("70")


def test_p11_a_users_filters_do_not_silence_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "squeue"
    program.write_text('#!/bin/sh\necho "<$SQUEUE_STATES$SQUEUE_USERS$SQUEUE_SORT>"\n')
    program.chmod(0o755)
    for name in ("SQUEUE_STATES", "SQUEUE_USERS", "SQUEUE_SORT"):
        monkeypatch.setenv(name, "x")
    assert ask(str(program)) == "<>\n"


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_CONF", "SLURM_JOB_NODELIST", "SLURM_CLUSTER_NAME"])
def test_variables_that_name_the_job_stay(name: str) -> None:
    assert name in step_environment({name: "x"})


@pytest.mark.parametrize(
    ("text", "version"), [("slurm 22.05.8", (22, 5)), ("slurm-wlm 23.11.4", (23, 11)), ("", None)]
)
def test_versions(text: str, version: tuple[int, int] | None) -> None:
    assert slurm_version(text) == version


NODE_LISTS = [
    ("node1", ["node1"]),
    ("node[1-3]", ["node1", "node2", "node3"]),
    ("gpu[008-010,3],login", ["gpu008", "gpu009", "gpu010", "gpu3", "login"]),
    ("r[1-2]n[1,3]", ["r1n1", "r1n3", "r2n1", "r2n3"]),
    ("n[8-11]", ["n8", "n9", "n10", "n11"]),
    ("n[098-101]", ["n098", "n099", "n100", "n101"]),
    ("n2,n1,n2", ["n2", "n1", "n2"]),
    ("n1.example.org,n[1-2]", ["n1.example.org", "n1", "n2"]),
    ("gpu-a[01-02,10]-[3-4]", ["gpu-a01-3", "gpu-a01-4", "gpu-a02-3", "gpu-a02-4", "gpu-a10-3", "gpu-a10-4"]),
]
"""What `scontrol show hostnames` makes of them, too: see `tests/slurm/test_launch.py`."""


@pytest.mark.parametrize(("text", "names"), [*NODE_LISTS, ("a[1-2]-ib,b", ["a1-ib", "a2-ib", "b"])])
def test_f09_node_lists(text: str, names: list[str]) -> None:
    assert expand_nodelist(text) == names


@pytest.mark.parametrize("text", ["", "a[", "a]", "a[1-", "a[x]", "a,,b", "a[1-999999999]", "a b", "a[[1]]"])
def test_invalid_node_lists_are_refused(text: str) -> None:
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
