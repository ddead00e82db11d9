"""A job's request to Slurm comes from the file, in either form."""

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import PlanError
from sflow_ctl.batch.slurm_request import SlurmRequest, completed, largest, slurm_requests
from sflow_ctl.batch.slurm_time import slurm_time
from sflow_ctl.format import schema
from sflow_ctl.format.loader import load_documents
from sflow_ctl.planner.numbers import NumberError

HEAD = 'version: "0.1"\nvariables: {N: 3, P: long, HALF: "${{ N * 2 }}"}\n'
TASKS = "workflow: {name: w, tasks: [{name: t, script: [x]%s}]}\n"
BODY = (
    '{type: slurm, account: lab, partition: "${{ P }}", nodes: "${{ variables.N }}", '
    'gpus_per_node: "${{ HALF }}", time: 1:30:00, job_name: j, extra_args: [--qos=x]}'
)


def requested(tmp_path: Path, backends: str, task: str = "") -> SlurmRequest:
    """Return the request of a file with these backends."""
    file = tmp_path / "w.yaml"
    file.write_text(HEAD + backends + TASKS % task)
    return next(iter(slurm_requests(load_documents([file]))), SlurmRequest())


def test_both_forms_and_expressions(tmp_path: Path) -> None:
    expected = SlurmRequest(
        backend="pool",
        nodes=3,
        gpus_per_node=6,
        partition="long",
        account="lab",
        time="1:30:00",
        job_name="j",
        extra_args=("--qos=x",),
    )
    assert requested(tmp_path, f"backends: {{pool: {BODY}}}\n") == expected
    listed = "{name: pool, " + BODY[1:]
    assert requested(tmp_path, f"backends: [{listed}]\n") == expected


def test_without_a_slurm_backend_the_file_asks_for_nothing(tmp_path: Path) -> None:
    assert requested(tmp_path, "") == SlurmRequest()
    assert requested(tmp_path, "backends: {here: {type: local}}\n") == SlurmRequest()


def test_the_backend_that_tasks_use_counts(tmp_path: Path) -> None:
    other = BODY.replace("variables.N", "variables.N + 1")
    both = f"backends: {{first: {BODY}, second: {other}}}\n"
    assert requested(tmp_path, both, ", backend: second").nodes == 4
    assert requested(tmp_path, both).backend == "first"


def test_each_used_one_has_a_request_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    tasks = "workflow: {name: w, tasks: [{name: a, script: [x], backend: b}, {name: c, script: [x]}]}\n"
    more = BODY.replace("variables.N", "variables.N + 1")
    file.write_text(f"{HEAD}backends: {{a: {BODY}, unused: {BODY}, b: {more}}}\n{tasks}")
    requests = slurm_requests(load_documents([file]))
    assert [(request.backend, request.nodes) for request in requests] == [("a", 3), ("b", 4)]
    assert largest(requests).backend == "b"


def test_the_largest_has_most_nodes_then_most_gpus() -> None:
    sizes = [("a", 2, 0), ("b", 2, 4), ("c", 1, 8), ("d", 2, 4), ("e", None, None)]
    requests = [SlurmRequest(backend=name, nodes=nodes, gpus_per_node=gpus) for name, nodes, gpus in sizes]
    assert largest(requests).backend == "b"


def test_a_bad_value_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        requested(tmp_path, f"backends: {{pool: {BODY.replace('variables.N', 'variables.P')}}}\n")
    (finding,) = caught.value.findings
    assert finding.where is not None
    assert finding.where.startswith(f"{tmp_path}/w.yaml:3:")
    with pytest.raises(PlanError, match="NOPE"):
        requested(tmp_path, f"backends: {{pool: {BODY.replace('variables.N', 'variables.NOPE')}}}\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (30, "30"),
        (30.0, "30"),
        ("90", "90"),
        ("1:30", "1:30"),
        ("12:00:00", "12:00:00"),
        ("1-12", "1-12"),
        ("1-12:00:30", "1-12:00:30"),
        ("UNLIMITED", "UNLIMITED"),
        ("90m", "0-01:30:00"),
        ("36h", "1-12:00:00"),
        ("1h30m", "0-01:30:00"),
        ("1.5s", "0-00:00:02"),
    ],
)
def test_time_limits(value: Any, text: str) -> None:
    assert slurm_time(value) == text


@pytest.mark.parametrize("value", ["", "soon", "1.5", 1.5, True, "-5", "1:2:3:4", "5 parsecs"])
def test_invalid_time_limits_are_refused(value: Any) -> None:
    with pytest.raises(NumberError):
        slurm_time(value)


SITE = schema.Settings(partition="site", account="site", qos="low", reservation="week")


def test_settings_fill_what_a_file_leaves_open() -> None:
    whole = completed(SlurmRequest(account="file", extra_args=("--qos=high",)), {}, SITE)
    assert (whole.partition, whole.account) == ("site", "file")
    assert whole.extra_args == ("--qos=low", "--reservation=week", "--qos=high")  # the last counts


def test_the_command_line_wins_over_the_file() -> None:
    said = {"partition": "said", "qos": "said"}
    whole = completed(SlurmRequest(partition="file", extra_args=("--qos=high",)), said, SITE)
    assert (whole.partition, whole.account) == ("said", "site")
    assert whole.extra_args == ("--reservation=week", "--qos=high", "--qos=said")
    assert completed(SlurmRequest(), {}, schema.Settings()) == SlurmRequest()
