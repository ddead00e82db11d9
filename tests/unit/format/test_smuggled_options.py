"""Values that a program would read as its options are refused where the file has them: S11."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import FleetError
from sflow_ctl.format import schema
from sflow_ctl.format.loader import load_documents
from sflow_ctl.planner.launch.ssh import ssh_command
from tests.integration.agent.fake_controller import spec
from tests.unit.planner.planning import plan_of

TASK = {"name": "t", "script": ["true"], "operator": "o"}


def document(**sections: Any) -> str:
    """Return a workflow, a line for each section; the first is the version."""
    parts = {"version": "0.1", "workflow": {"name": "w", "tasks": [TASK]}, **sections}
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in parts.items())


OPERATORS: list[tuple[str, dict[str, Any]]] = [
    ("image", {"type": "docker", "image": "--privileged"}),
    ("image", {"type": "container", "image": " -v/:/host"}),
    ("workdir", {"type": "docker", "image": "i", "workdir": "-x"}),
    ("mounts", {"type": "docker", "image": "i", "mounts": ["a:b", "--privileged"]}),
    ("network", {"type": "container", "image": "i", "network": "-x"}),
    ("host", {"type": "ssh", "host": "-oProxyCommand=x"}),
    ("user", {"type": "ssh", "host": "h", "user": "-oProxyCommand=x"}),
    ("identity_file", {"type": "ssh", "host": "h", "identity_file": "-x"}),
    ("python_exec", {"type": "python", "python_exec": "-x"}),
    ("nodelist", {"type": "srun", "nodelist": ["n0", "--bcast"]}),
    ("container_image", {"type": "srun", "container_image": "--x"}),
    ("container_name", {"type": "srun", "container_name": "--x"}),
    ("container_mounts", {"type": "srun", "container_mounts": ["--x"]}),
    ("partition", {"type": "srun", "partition": "--x"}),
    ("job_id", {"type": "srun", "job_id": "--x"}),
    ("mpi", {"type": "srun", "mpi": "-x"}),
    ("export", {"type": "srun", "export": "--x"}),
]


@pytest.mark.parametrize(
    ("field", "operator"), OPERATORS, ids=lambda one: one if isinstance(one, str) else ""
)
def test_s11_a_value_of_an_operator_is_no_option(
    tmp_path: Path, field: str, operator: dict[str, Any]
) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(document(operators={"o": operator}))
    with pytest.raises(FleetError) as caught:
        load_documents([file])
    (finding,) = [one for one in caught.value.findings if one.code == "option-in-value"]
    assert f'"{field}"' in finding.what
    assert "w.yaml:3" in (finding.where or "")


def test_s11_an_expression_that_becomes_an_option_is_refused_too(tmp_path: Path) -> None:
    text = document(
        variables={"IMAGE": "--privileged"},
        operators={"o": {"type": "docker", "image": "${{ variables.IMAGE }}"}},
    )
    with pytest.raises(FleetError, match="would be read as an option"):
        plan_of(tmp_path, text.partition("\n")[2])


@pytest.mark.parametrize("field", ["account", "partition", "job_name"])
def test_s11_a_value_of_a_backend_is_no_option(tmp_path: Path, field: str) -> None:
    backend = {"type": "slurm", "time": "1:00", "nodes": 1, "gpus_per_node": 1, field: "--wrap=x"}
    file = tmp_path / "w.yaml"
    file.write_text(document(backends={"b": backend}, operators={"o": {"type": "bash"}}))
    with pytest.raises(FleetError, match="would be read as an option"):
        load_documents([file])


def test_s11_an_image_of_an_artifact_is_no_option(tmp_path: Path) -> None:
    text = document(artifacts={"A": {"uri": "docker://--privileged"}}, operators={"o": {"type": "bash"}})
    with pytest.raises(FleetError, match="would be read as an option"):
        plan_of(tmp_path, text.partition("\n")[2])


def test_s11_what_is_meant_as_options_stays(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(
        document(operators={"o": {"type": "docker", "image": "i", "extra_args": ["--privileged"]}})
    )
    assert load_documents([file]).document.operators[0].extra_args == ["--privileged"]


def test_s11_a_host_that_is_known_late_comes_after_the_options() -> None:
    """Outputs of other tasks are filled in at the start, when nothing is checked any more."""
    operator = schema.Operator(name="o", type="ssh", host="MARK")
    argv, _ = ssh_command("t", operator, "true", {})
    assert argv[argv.index("MARK") - 1] == "--"


def test_s11_an_agent_starts_no_container_of_an_image_that_is_an_option() -> None:
    from protocol.messages.rank_spec import Container
    from sflow_agent.processes.containers import Containers
    from sflow_agent.processes.spawn import SpawnError

    containers = Containers.__new__(Containers)
    containers._environment = {"SFLOW_RUN_MARKER": "m"}
    with pytest.raises(SpawnError, match="would be read as an option"):
        containers.prepare(spec("t", "true"), Container(engine="docker", image="--privileged"))
