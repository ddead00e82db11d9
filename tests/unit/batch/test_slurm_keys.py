"""Keys of a Slurm backend that are options of its job."""

from pathlib import Path

import pytest

from protocol.errors import PlanError, SpecError
from sflow_ctl.batch.slurm_request import completed, slurm_requests
from sflow_ctl.format import schema
from sflow_ctl.format.loader import load_documents

TASKS = "workflow: {name: w, tasks: [{name: a, script: ['true']}]}\n"


def options(folder: Path, keys: str, more: str = "", qos: str | None = None) -> tuple[str, ...]:
    """Return the options that a backend with these keys asks Slurm for."""
    path = folder / "w.yaml"
    fields = "nodes: 1, gpus_per_node: 0, time: 5"
    path.write_text(f'version: "0.1"\n{more}backends: {{pool: {{type: slurm, {fields}, {keys}}}}}\n{TASKS}')
    (request,) = slurm_requests(load_documents([path]))
    return completed(request, {}, schema.Settings(qos=qos)).extra_args


def test_each_key_is_an_option(tmp_path: Path) -> None:
    keys = (
        "qos: high, constraint: 'a100&(ib|roce)', mem: 64G, cpus_per_task: 8, reservation: r1, exclude: 'n1,n2', "
        "dependency: 'afterok:12:13+5,singleton', mail: {user: me@x.org, type: [end, time_limit_90]}"
    )
    assert options(tmp_path, keys) == (
        "--exclude=n1,n2",
        "--qos=high",
        "--constraint=a100&(ib|roce)",
        "--mem=64G",
        "--cpus-per-task=8",
        "--reservation=r1",
        "--dependency=afterok:12:13+5,singleton",
        "--mail-user=me@x.org",
        "--mail-type=END,TIME_LIMIT_90",
    )


def test_mail_is_for_the_end_unless_it_says_more(tmp_path: Path) -> None:
    assert options(tmp_path, "mail: me") == ("--mail-user=me", "--mail-type=END,FAIL")
    assert options(tmp_path, "mail: {user: me, type: all}")[-1] == "--mail-type=ALL"


def test_a_key_wins_over_a_setting_and_extra_args_over_both(tmp_path: Path) -> None:
    assert options(tmp_path, "qos: b, extra_args: [--qos=c]", qos="a") == ("--qos=a", "--qos=b", "--qos=c")


def test_nothing_is_asked_for_without_keys(tmp_path: Path) -> None:
    assert options(tmp_path, "spares: 0") == ("--no-kill",)
    assert options(tmp_path, "default: true") == ()


def test_both_names_of_excluded_nodes_count(tmp_path: Path) -> None:
    assert options(tmp_path, "exclude: [n1], exclude_nodes: [n2]") == ("--exclude=n2,n1",)


def test_expressions_are_evaluated_and_checked_then(tmp_path: Path) -> None:
    more = "variables: {M: 2, WHO: me}\n"
    asked = options(
        tmp_path, "mem: '${{ M * 4 }}G', mail: {user: '${{ WHO }}', type: ['${{ \"end\" }}']}", more
    )
    assert asked == ("--mem=8G", "--mail-user=me", "--mail-type=END")
    with pytest.raises(PlanError) as caught:
        options(tmp_path, "mem: '${{ WHO }}'", more)
    assert caught.value.findings[0].what == 'mem of backend "pool": "me" is not an amount of memory'


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("qos: a b", '"a b" is not the name of a quality of service'),
        ("constraint: a b", '"a b" is not a list of node features'),
        ("mem: much", '"much" is not an amount of memory'),
        ("mem: 1.5G", '"1.5G" is not an amount of memory'),
        ("cpus_per_task: 0", '"0" is not a number of CPUs'),
        ("cpus_per_task: 1.5", '"1.5" is not a number of CPUs'),
        ("reservation: ''", '"" is not the name of a reservation'),
        ("dependency: 12", "expected text"),
        ("dependency: '12'", '"12" is not a condition of Slurm on other jobs'),
        ("dependency: 'afterok:1,afterany:2?singleton'", "is not a condition of Slurm on other jobs"),
        ("dependency: 'afterok:x'", '"afterok:x" is not a condition'),
        ("mail: a b", '"a b" is not an address for mail'),
        ("mail: {user: a, type: [often]}", '"often" is not a kind of mail'),
    ],
)
def test_what_slurm_would_refuse_is_refused_before(tmp_path: Path, keys: str, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        options(tmp_path, keys)
    assert what in caught.value.findings[0].what
    assert "w.yaml:2" in str(caught.value.findings[0].where)


def test_other_backends_do_not_have_these_keys(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(f'version: "0.1"\nbackends: {{here: {{type: local, mem: 4G}}}}\n{TASKS}')
    with pytest.raises(SpecError) as caught:
        load_documents([path], refuses_ignored=True)
    assert "mem" in caught.value.findings[0].what
