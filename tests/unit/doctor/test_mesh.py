"""Which nodes connect to which, and the verdicts about broken connections."""

from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from sflow_ctl.doctor.mesh import callees, mesh_topic, targets
from sflow_ctl.doctor.verdicts import Severity
from tests.unit.doctor.healthy import connected, node

Problem = Callable[[int, int, str], str]


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 100, 1000])
def test_every_node_makes_as_many_connections_as_it_gets_and_none_to_itself(count: int) -> None:
    called = callees(count)
    assert all(index not in others and len(set(others)) == len(others) for index, others in enumerate(called))
    times = Counter(other for others in called for other in others)
    assert len(set(times.values())) <= 1
    assert len(times) == (count if count > 1 else 0)
    most = count - 1 if count <= 16 else 10
    assert max(map(len, called)) <= most


def test_private_addresses_of_a_node_are_not_targets() -> None:
    nodes = [node(index) for index in range(3)]
    found = {(target.interface, target.address, target.is_primary) for target in targets(nodes)[0]}
    assert found == {
        ("eth0", "10.0.0.1", True),
        ("ib0", "10.9.0.1", False),
        ("eth0", "10.0.0.2", True),
        ("ib0", "10.9.0.2", False),
    }
    assert {target.port for target in targets(nodes)[0]} == {4001, 4002}


def test_an_address_of_several_nodes_is_tested_only_if_tasks_get_it() -> None:
    nodes = [node(index) for index in range(2)]
    same = [
        msgspec.structs.replace(one.report, addresses=(("br0", "10.5.0.1"),)) for one in nodes if one.report
    ]
    strange = [msgspec.structs.replace(one, report=report) for one, report in zip(nodes, same, strict=True)]
    assert [target.address for target in targets(strange)[0]] == ["10.0.0.1"]
    twins = [msgspec.structs.replace(one, address="10.5.0.1") for one in strange]
    assert [target.address for target in targets(twins)[0]] == ["10.5.0.1"]


def where(is_broken: Callable[[int, int, str], bool], why: str = "timed out") -> Problem:
    """Connections of a source to a target over an interface that fail."""
    return lambda source, target, interface: why if is_broken(source, target, interface) else ""


def verdicts(count: int, problem: Problem) -> list[tuple[str, tuple[str, ...], str]]:
    """Return (severity, nodes, text) of the problems."""
    nodes = connected([node(index) for index in range(count)], problem)
    return [
        (one.severity.value, one.nodes, one.text)
        for one in mesh_topic(nodes).verdicts
        if one.severity is not Severity.OK
    ]


def test_a_pair_that_is_cut_off_is_one_line() -> None:
    broken = where(lambda source, target, name: {source, target} == {1, 2} and name == "eth0")
    assert verdicts(4, broken) == [
        (
            "fail",
            (),
            "n1 and n2 do not reach each other (10.0.0.2 on eth0: timed out; 10.0.0.1 on eth0: timed out)",
        )
    ]


def test_a_one_way_failure_is_attributed_to_the_caller() -> None:
    broken = where(lambda source, target, name: (source, target, name) == (1, 2, "eth0"), "refused")
    assert verdicts(4, broken) == [("fail", ("n1",), "does not reach n2 (10.0.0.2 on eth0: refused)")]


@pytest.mark.parametrize("count", [4, 16, 40, 300])
def test_an_unreachable_node_is_one_line_for_any_number_of_nodes(count: int) -> None:
    broken = where(lambda _source, target, name: target == 3 and name == "eth0")
    assert verdicts(count, broken) == [
        ("fail", ("n3",), "cannot be reached by any other node (10.0.0.3: timed out)")
    ]


def test_a_node_that_reaches_no_other_is_one_line() -> None:
    broken = where(lambda source, _target, name: source == 3 and name == "eth0")
    assert verdicts(6, broken) == [("fail", ("n3",), "reaches no other node (timed out)")]


def test_a_node_off_the_network_is_one_line() -> None:
    broken = where(lambda source, target, name: 3 in (source, target) and name == "eth0")
    assert verdicts(6, broken) == [
        ("fail", ("n3",), "reaches no other node and is reached by none (10.0.0.3: timed out)")
    ]


def test_many_broken_pairs_are_counted() -> None:
    broken = where(lambda source, target, name: (source + target) % 2 == 1 and name == "eth0", "refused")
    found = verdicts(12, broken)
    assert len(found) == 13
    assert found[-1] == ("fail", (), "24 more pairs of nodes do not reach each other")


def test_a_second_interface_that_does_not_work_is_a_warning_of_the_interface() -> None:
    broken = where(lambda _source, target, name: name == "ib0" and target in (1, 2))
    assert verdicts(4, broken) == [
        (
            "warn",
            ("n1", "n2"),
            "interface ib0: 6 of 6 connections to 10.9.0.1, 10.9.0.2 fail (timed out)",
        )
    ]


def test_slow_connections_are_attributed_to_the_caller() -> None:
    nodes = connected([node(index) for index in range(3)])
    slow = tuple(msgspec.structs.replace(result, connect_s=1.01) for result in nodes[1].mesh)
    nodes[1] = msgspec.structs.replace(nodes[1], mesh=slow)
    texts = [one.text for one in mesh_topic(nodes).verdicts if one.severity is Severity.WARN]
    assert texts == ["took up to 1.0 s to reach n0, n2"]


def test_a_missing_node_does_not_shift_the_others() -> None:
    nodes = connected(
        [node(index) for index in (0, 2, 5)], lambda source, target, name: "refused" if target == 5 else ""
    )
    (verdict, *_) = mesh_topic(nodes).verdicts
    assert verdict.nodes == ("n5",)
