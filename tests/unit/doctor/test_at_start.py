"""Warnings of a run at its start."""

import msgspec
import pytest

from protocol.messages.facts import Hello, NodeDescribed
from sflow_ctl.doctor.at_start import StartChecks
from tests.unit.doctor.healthy import node

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


def hello(index: int, *, shares: bool = True, hard: int = 1 << 20) -> Hello:
    """Of a node's first session."""
    return Hello(
        version=(1, 0),
        install_path="/opt",
        session="s",
        node=index,
        agent_incarnation=1,
        controller_incarnation=0,
        pid=9,
        inventory=msgspec.structs.replace(node(index).inventory, open_files=(256, hard)),
        shares_run_directory=shares,
    )


def checks(*hellos: Hello, is_spooled: bool = False) -> StartChecks:
    """All have been welcomed a second ago."""
    return StartChecks(
        [f"n{index}" for index in range(8)],
        {one.node: one for one in hellos},
        {one.node: NOW - SECOND for one in hellos},
        is_spooled,
    )


def said(found: StartChecks, *nodes: int, clock_ns: int = NOW - SECOND // 2) -> list[str]:
    """Warnings when these have described themselves."""
    return [text for index in nodes for text in found.described(index, NodeDescribed(clock_ns=clock_ns), NOW)]


def test_healthy_nodes_give_no_warning() -> None:
    assert said(checks(hello(0), hello(1)), 0, 1) == []


def test_nodes_that_do_not_share_the_directory_are_one_warning_once_all_are_known() -> None:
    found = checks(*(hello(index, shares=False) for index in range(3)))
    assert said(found, 0, 1) == []
    (text,) = said(found, 2)
    assert text.startswith(
        "the run directory is not shared with n0, n1, n2: logs and declared outputs are sent"
    )
    assert said(found, 2) == []


def test_no_warning_is_given_while_a_node_is_awaited() -> None:
    found = checks(hello(0, hard=512), hello(1, hard=512))
    assert found.described(0, NodeDescribed(clock_ns=0), NOW, is_awaiting=True) == []
    assert len(found.described(1, NodeDescribed(clock_ns=0), NOW, is_awaiting=False)) == 1


def test_a_requested_spool_gives_no_warning() -> None:
    assert said(checks(hello(0, shares=False), is_spooled=True), 0) == []


def test_few_descriptors_are_one_warning_for_all_nodes_alike() -> None:
    (text,) = said(checks(hello(0, hard=512), hello(1, hard=512), hello(2, hard=-1)), 0, 1, 2)
    assert text.startswith("tasks on n0, n1 may open 512 files at most")


@pytest.mark.parametrize(
    ("clock_ns", "expected"),
    [
        (NOW + 90 * SECOND, "the clock of n0 is 90.0 s ahead of this host's"),
        (NOW - 91 * SECOND, "the clock of n0 is 90.0 s behind this host's"),
        (NOW + SECOND // 2, None),
        (NOW - 2 * SECOND, None),
        (0, None),
    ],
)
def test_a_clock_is_wrong_only_when_no_delay_can_explain_it(clock_ns: int, expected: str | None) -> None:
    found = said(checks(hello(0)), 0, clock_ns=clock_ns)
    assert [text.partition(":")[0] for text in found] == ([expected] if expected else [])


def test_a_node_that_comes_later_is_judged_alone() -> None:
    hellos = {0: hello(0, hard=512)}
    found = StartChecks(["n0", "n1"], hellos, {0: NOW, 1: NOW}, is_spooled=False)
    assert len(said(found, 0, clock_ns=NOW)) == 1
    hellos[1] = hello(1, hard=600)
    (text,) = said(found, 1, clock_ns=NOW)
    assert "on n1 may open 600" in text
