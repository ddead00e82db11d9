"""Backends of type docker: their operator, their nodes and addresses, and what hosts cannot do."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from protocol.errors import FleetError
from protocol.messages.checks import TcpCheck
from protocol.messages.rank_spec import RankSpec
from sflow_ctl.core.model.rank_specs import rank_specs
from sflow_ctl.core.model.task import build_graph
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.deferred import DeferredValues
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.engine_host import EngineHost
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.pipeline import build_plan
from tests.unit.planner.planning import CONTEXT

HOSTS = """
  far:
    type: docker
    image: "${{ variables.IMAGE }}"
    gpus_per_node: 2
    mounts: [/all:/all]
    extra_args: ["--init --shm-size=1g"]
    hosts:
      - name: "${{ variables.FIRST }}"
        docker_host: "ssh://${{ variables.FIRST }}"
        ip_address: 10.0.0.1
        gpus_per_node: "${{ 2 * 2 }}"
      - {name: b, context: there, mounts: ["/b:/b"], extra_args: ["-e B='1 2'"]}
"""
HERE = "\n  box: {type: docker, image: i, nodes: 2, gpus_per_node: 2, workdir: /w}\n"


def plan(tmp_path: Path, backends: str, task: str, context: PlanContext = CONTEXT, more: str = "") -> Plan:
    """Plan a file with these backends and one task."""
    file = tmp_path / "w.yaml"
    head = f'version: "0.1"\nvariables: {{IMAGE: "i:1", FIRST: a}}\n{more}'
    file.write_text(
        f"{head}backends:{backends}workflow:\n  name: w\n  tasks: [{{name: t, script: [x], {task}}}]\n"
    )
    return build_plan(load_documents([file]), context)


def orders(planned: Plan) -> list[RankSpec]:
    """Return the orders that start the task as planned."""
    (task,) = build_graph(planned)
    task.begin_attempt(task.plan.placement, 0.0)
    task.attempt.fill_in(
        task.plan, DeferredValues(planned, {}, lambda name: None, EVALUATOR).rendered(task.plan, {})
    )
    return [spec for _, spec in rank_specs(task, planned, stream=False)]


def refused(tmp_path: Path, backends: str, task: str, more: str = "") -> str:
    with pytest.raises(FleetError) as raised:
        plan(tmp_path, backends, task, more=more)
    (finding,) = raised.value.findings
    return str(finding)


def test_a_host_is_a_node_with_everything_of_its_own(tmp_path: Path) -> None:
    planned = plan(tmp_path, HOSTS, "resources: {nodes: {count: 2}}")
    assert [(node.name, node.gpus, node.address) for node in planned.nodes] == [
        ("a", 4, "10.0.0.1"),
        ("b", 2, "0.0.0.0"),
    ]
    assert planned.nodes[0].engine_host == EngineHost(docker_host="ssh://a")
    first, second = (order.container for order in orders(planned))
    assert first is not None
    assert second is not None
    assert (first.image, first.docker_host, first.context) == ("i:1", "ssh://a", None)
    assert (first.mounts, first.extra_args) == (("/all:/all",), ("--init", "--shm-size=1g"))
    assert (second.docker_host, second.context) == (None, "there")
    assert second.mounts == ("/all:/all", "/b:/b")
    assert second.extra_args == ("--init", "--shm-size=1g", "-e", "B=1 2")
    assert first.directories == second.directories == ()  # hosts need not have them


def test_a_filter_keeps_the_facts_of_each_host(tmp_path: Path) -> None:
    context = replace(CONTEXT, exclude_nodes=("a",))
    (node,) = plan(tmp_path, HOSTS, "resources: {nodes: {count: 1}}", context).nodes
    assert (node.name, node.gpus, node.index) == ("b", 2, 0)
    assert node.engine_host is not None
    assert node.engine_host.context == "there"
    with pytest.raises(FleetError, match="removed all nodes"):
        plan(tmp_path, HOSTS, "timeout: 5", replace(CONTEXT, include_nodes=("c",)))


@pytest.mark.parametrize("kind", ["docker, image: i", "local"])
def test_a_filter_has_no_effect_on_this_machine(tmp_path: Path, kind: str) -> None:
    planned = plan(tmp_path, f"\n  b: {{type: {kind}, exclude_nodes: [n9]}}\n", "timeout: 5")
    assert [warning.code for warning in planned.warnings] == ["no-effect"]
    assert 'backend "b" is this machine' in planned.warnings[0].what


def test_addresses_are_said_where_other_tasks_can_use_them(tmp_path: Path) -> None:
    """As in sflow 0.3.1: containers on this machine have networks of their own."""
    (here,) = plan(tmp_path, HERE, "resources: {nodes: {count: 1}}").tasks
    assert "SFLOW_TASK_ASSIGNED_NODE_IPS" not in here.env
    assert here.env["SFLOW_TASK_ASSIGNED_NODE_NAMES"] == "localhost"
    planned = plan(tmp_path, HOSTS, "resources: {nodes: {count: 2}}")
    assert planned.tasks[0].env["SFLOW_TASK_ASSIGNED_NODE_IPS"] == "10.0.0.1,"
    first, second = (order.env for order in orders(planned))
    assert (first["SFLOW_NODE_IP"], first["SFLOW_MASTER_ADDR"]) == ("10.0.0.1", "10.0.0.1")
    assert "SFLOW_NODE_IP" not in second
    unknown = plan(tmp_path, HOSTS, "resources: {nodes: {indices: [1]}}")
    (order,) = orders(unknown)
    assert not {"SFLOW_MASTER_ADDR", "SFLOW_NODE_IP", "SFLOW_TASK_ASSIGNED_NODE_IPS"} & set(order.env)


@pytest.mark.parametrize(
    ("backends", "node", "expected"),
    [(HERE, 0, "[] 127.0.0.1"), (HOSTS, 0, "[10.0.0.1] 10.0.0.1")],
)
def test_services_are_where_they_can_be_reached(
    tmp_path: Path, backends: str, node: int, expected: str
) -> None:
    task = (
        f"ports: [{{port: 8000}}], resources: {{nodes: {{indices: [{node}]}}}}}}, "
        "{name: u, depends_on: [t], script: ['[${{ task.t.service.host }}] ${{ task.t.nodes[0].ip_address }}']"
    )
    assert plan(tmp_path, backends, task).tasks[1].script == expected


def test_an_unknown_address_is_missing(tmp_path: Path) -> None:
    text = refused(tmp_path, HOSTS, "variables: {A: '${{ backends.far.nodes[1].ip_address }}'}")
    assert "ip_address" in text


def test_ports_of_a_host_are_asked_from_outside(tmp_path: Path) -> None:
    probe = "probes: {readiness: {tcp_port: {port: 80}}}, resources: {nodes: {indices: [%d]}}"
    (order,) = orders(plan(tmp_path, HOSTS, probe % 0))
    assert order.probes[0].checks == (TcpCheck(port=80, host="10.0.0.1", owner="any"),)
    (order,) = orders(plan(tmp_path, HOSTS, probe % 1))  # its address is unknown
    assert order.probes[0].checks == (TcpCheck(port=80),)


LIKE = "probes: {%s: {%s}}"


def test_a_port_that_no_address_is_known_for_is_refused_or_warned_of(tmp_path: Path) -> None:
    port = LIKE % ("readiness", "tcp_port: {port: 80}")
    assert "address-unknown" in [one.code for one in plan(tmp_path, HOSTS, port).warnings]
    nowhere = "\n  far: {type: docker, image: i, hosts: [{name: b, context: there}, {name: c, context: c}]}\n"
    for task in (port, LIKE % ("failure", "any: [{tcp_port: {port: 80}}, {exec: {command: x}}]")):
        assert 'b, c of backend "far" have no ip_address' in refused(tmp_path, nowhere, task)
    plan(tmp_path, nowhere, LIKE % ("readiness", "tcp_port: {port: 80, host: 10.0.0.7}"))
    plan(tmp_path, nowhere, LIKE % ("readiness", "log_watch: {match_pattern: up}"))


OWN = "operators: {o: {type: %s}}\n"


@pytest.mark.parametrize(
    ("task", "operator", "expected"),
    [
        ("ports: {http: 1}", "bash", "ports are leased on this machine"),
        (
            "operator: o",
            "container, image: i, engine: apptainer",
            "apptainer starts containers on its own machine",
        ),
    ],
)
def test_what_another_machine_cannot_do_is_refused(
    tmp_path: Path, task: str, operator: str, expected: str
) -> None:
    assert expected in refused(tmp_path, HOSTS, task, OWN % operator)


def test_what_is_not_done_on_hosts_is_a_warning(tmp_path: Path) -> None:
    planned = plan(tmp_path, HOSTS, "operator: o, resources: {nodes: {count: 1}}", more=OWN % "bash")
    assert [warning.code for warning in planned.warnings] == ["runs-here"]
    assert 'operator "o" starts no container' in planned.warnings[0].what
    planned = plan(tmp_path, HOSTS, "resources: {gpus: {count: 2}}")
    assert [warning.code for warning in planned.warnings] == ["gpus-unchecked"]
    assert not plan(tmp_path, HERE, "resources: {gpus: {count: 2}}").warnings


@pytest.mark.parametrize("field", ["name", "docker_host"])
def test_a_computed_value_cannot_be_an_option(tmp_path: Path, field: str) -> None:
    backends = HOSTS.replace("ssh://${{ variables.FIRST }}", "${{ variables.FIRST }}")
    changed = backends if field == "name" else backends.replace('name: "${{ variables.FIRST }}"', "name: a")
    file = tmp_path / "w.yaml"
    file.write_text(
        f'version: "0.1"\nvariables: {{IMAGE: i, FIRST: "-oProxyCommand=x"}}\nbackends:{changed}'
        "workflow: {name: w, tasks: [{name: t, script: [x]}]}\n"
    )
    with pytest.raises(FleetError) as raised:
        build_plan(load_documents([file]), CONTEXT)
    text = str(raised.value.findings[0])
    assert f'"{field}" of host 1 is "-oProxyCommand=x"' in text
    assert f":{11 if field == 'name' else 12}:" in text


def test_the_operator_of_a_backend_is_evaluated_and_checked(tmp_path: Path) -> None:
    (task,) = plan(tmp_path, HERE, "resources: {nodes: {count: 1}}").tasks
    assert task.container is not None
    assert (task.operator, task.container.workdir) == ("default_box", "/w")
    backends = HERE.replace("image: i", "image: '${{ variables.FIRST }}', runtime: dokker")
    assert '"dokker" is not a valid runtime' in refused(tmp_path, backends, "timeout: 5")


def test_options_of_the_command_line_win(tmp_path: Path) -> None:
    context = replace(CONTEXT, docker_args=("--shm-size=2g",), extra_args=("--shm-size=3g", "--qos=high"))
    (task,) = plan(tmp_path, HOSTS, "resources: {nodes: {count: 1}}", context).tasks
    assert task.container is not None
    assert task.container.extra_args == ("--init", "--qos=high", "--shm-size=2g")
    backend = "\n  l: {type: local}\n"  # general options may be about Slurm there
    (elsewhere,) = plan(tmp_path, backend, "operator: o", context, OWN % "docker, image: i").tasks
    assert elsewhere.container is not None
    assert elsewhere.container.extra_args == ("--shm-size=2g",)


def test_monitors_of_hosts_are_a_warning(tmp_path: Path) -> None:
    for backends, codes in ((HOSTS, ["monitors-here"]), (HERE, [])):
        planned = plan(tmp_path, backends, "monitor: {}, resources: {nodes: {count: 1}}")
        assert [warning.code for warning in planned.warnings] == codes


def test_strict_rules_know_docker_run_only(tmp_path: Path) -> None:
    """And start one container on each node, although other local tasks have one process there."""
    strict = replace(CONTEXT, compat="0.3.1")
    more = OWN % "docker, image: i"
    with pytest.raises(FleetError, match="write type: docker_run"):
        plan(tmp_path, HERE, "operator: o", strict, more)
    (task,) = plan(tmp_path, HERE, "operator: o", strict, more.replace("docker,", "docker_run,")).tasks
    assert task.ranks_per_node == (1, 1)
    assert plan(tmp_path, HERE, "operator: o", more=more).tasks[0].ranks_per_node == (1, 1)
