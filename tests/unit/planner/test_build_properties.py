"""Whole plans of random files: planned or refused with a code, always the same, and no GPU given twice."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from protocol.errors import FleetError
from sflow_ctl.format.loader import load_documents
from sflow_ctl.format.yaml_source import dump
from sflow_ctl.plan.copies.task_list import ByName
from sflow_ctl.plan.graph import dependency_names
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.pipeline import build_plan
from sflow_ctl.planner.show.plan_json import to_json
from sflow_ctl.planner.show.text import plan_text
from sflow_ctl.planner.tasks.copies import EqualCopies
from sflow_ctl.runtime.record.plan_file import decode_plan, encode_plan
from tests.unit.planner.planning import CONTEXT

pytest.importorskip("hypothesis")

import hypothesis
from hypothesis import strategies as st

NAMES = [f"t{index}" for index in range(6)]
EXPRESSIONS = [
    "plain",
    "${{ A }}",
    "${{ variables.B * 2 }}",
    "${{ task.t0.nodes[0].name }}",
    "${{ replica.index }}",
    "${{ NOPE }}",
    "${{ ''.__class__ }}",
]


@st.composite
def tasks(draw: Any, name: str, mistakes: bool) -> dict[str, Any]:
    """A task that may be replicated, placed, dependent, and wrong."""
    scripts = EXPRESSIONS if mistakes else EXPRESSIONS[:3]
    others = NAMES if mistakes else NAMES[: NAMES.index(name)]
    task: dict[str, Any] = {"name": name, "script": draw(st.lists(st.sampled_from(scripts), min_size=1))}
    if others and draw(st.booleans()):
        task["depends_on"] = draw(st.lists(st.sampled_from(others), max_size=2, unique=True))
    if draw(st.booleans()):
        task["replicas"] = draw(
            st.sampled_from(
                [
                    {},
                    {"count": 3},
                    {"count": "${{ A }}", "policy": "sequential"},
                    {"variables": ["A"]},
                    *([{"variables": ["A", "B"]}] * mistakes),
                ]
            )
        )
    if draw(st.booleans()):
        task["resources"] = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "gpus": st.fixed_dictionaries(
                        {"count": st.integers(0, 9) if mistakes else st.sampled_from([2, 4])}
                    ),
                    "nodes": st.sampled_from(
                        [
                            {"count": 1},
                            {"count": 2},
                            {"indices": [1]},
                            {"exclude": [0]},
                            *([{"indices": [7]}] * mistakes),
                        ]
                    ),
                },
            )
        )
    return task


@st.composite
def documents(draw: Any, mistakes: bool = True) -> dict[str, Any]:
    """A file with two nodes, two variables and up to six tasks."""
    names = NAMES[: draw(st.integers(1, 6))]
    return {
        "version": "0.1",
        "variables": {"A": {"value": 2, "domain": [1, 2]}, "B": {"value": "${{ A + 1 }}"}},
        "backends": {
            "pool": {"type": "local", "nodes": 2, "gpus_per_node": draw(st.integers(1 if mistakes else 4, 4))}
        },
        "workflow": {"name": "w", "tasks": [draw(tasks(name, mistakes)) for name in names]},
    }


def outcome(document: dict[str, Any], folder: Path) -> Plan | str:
    """Return the plan, or its problems."""
    path = folder / "w.yaml"
    path.write_text(dump(document))
    try:
        return build_plan(load_documents([path]), CONTEXT)
    except FleetError as error:
        refusal = error
    assert all(finding.code and finding.where for finding in refusal.findings), str(refusal)
    return str(refusal)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples."""
    return tmp_path_factory.mktemp("plans")


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(document=documents())
def test_a_random_file_plans_the_same_twice_or_is_refused_with_codes(
    document: dict[str, Any], folder: Path
) -> None:
    first, second = outcome(document, folder), outcome(document, folder)
    assert first == second
    if isinstance(first, Plan) and isinstance(second, Plan):
        encoded = b"".join(encode_plan(first))
        assert encoded == b"".join(encode_plan(second))
        assert decode_plan(encoded) == first


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(document=st.booleans().flatmap(documents))
def test_copies_in_one_part_are_what_planning_each_by_itself_gives(
    document: dict[str, Any], folder: Path
) -> None:
    lazy = outcome(document, folder)
    with mock.patch.multiple(EqualCopies, like=lambda *_: None, are_alike=lambda *_: False):
        eager = outcome(document, folder)
    assert lazy == eager
    if isinstance(lazy, Plan) and isinstance(eager, Plan):
        assert isinstance(eager.tasks, tuple), "no part of it is made when it is asked for"
        assert lazy.members() == eager.members()
        assert plan_text(lazy) == plan_text(eager)
        assert to_json(lazy) == to_json(eager)
        assert decode_plan(b"".join(encode_plan(eager))) == lazy
        assert decode_plan(b"".join(encode_plan(lazy))) == eager
        found, length = ByName(lazy.tasks), len(eager.tasks)
        assert all(found[task.name] == task and found.base(task.name) == task.base for task in eager.tasks)
        assert [lazy.tasks[index] for index in range(-length, length)] == list(eager.tasks) * 2
        assert lazy.tasks[1:] == eager.tasks[1:]


def ancestors(name: str, plan: Plan) -> set[str]:
    """Return all tasks that must have ended, or be ready, before a task starts."""
    tasks, members = {task.name: task for task in plan.tasks}, plan.members()
    found: set[str] = set()
    pending = [name]
    while pending:
        for other in dependency_names(tasks[pending.pop()], members):
            if other not in found:
                found.add(other)
                pending.append(other)
    return found


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(document=documents(mistakes=False))
def test_no_gpu_is_given_twice_at_once_and_every_dependency_exists(
    document: dict[str, Any], folder: Path
) -> None:
    plan = outcome(document, folder)
    assert isinstance(plan, Plan), plan
    members = plan.members()
    given: dict[tuple[int, int], list[str]] = {}
    before = {task.name: ancestors(task.name, plan) for task in plan.tasks}
    for task in plan.tasks:
        assert set(dependency_names(task, members)) <= {one.name for one in plan.tasks} - {task.name}
        placement = task.placement
        assert all(0 <= node < len(plan.nodes) for node in placement.nodes)
        if placement.is_flexible:
            assert len(placement.nodes) >= placement.node_count
            continue
        for node in placement.nodes:
            capacity = plan.nodes[node].gpus
            assert capacity is not None
            for gpu in placement.gpus:
                assert gpu < capacity
                owners = given.setdefault((node, gpu), [])
                assert all(one in before[task.name] or task.name in before[one] for one in owners)
                owners.append(task.name)


def test_a_sequential_chain_and_fan_out_of_ten_thousand_is_linear(tmp_path: Path) -> None:
    rows = [{"name": "a", "script": ["x"], "replicas": {"count": 10_000}}]
    rows.append({"name": "b", "script": ["x"], "depends_on": ["a"], "replicas": {"count": 2_000}})
    document = {"version": "0.1", "workflow": {"name": "w", "tasks": rows}}
    plan = outcome(document, tmp_path)
    assert isinstance(plan, Plan)
    assert len(plan.tasks) == 12_000
    # What a task waits for is one object for all that wait for the same: 20 million entries would not do.
    assert plan.tasks[-1].depends_on is plan.tasks[-2].depends_on
