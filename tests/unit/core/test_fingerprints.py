"""Fingerprints of tasks: the same in other runs and places, and others whenever the work is another one."""

from typing import Any

import msgspec
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from sflow_ctl.plan.artifact_mentions import MISSING, PlannedArtifactUse
from sflow_ctl.plan.model import Plan, PlannedNode, PlannedTask
from sflow_ctl.plan.results import PlannedInput
from sflow_ctl.plan.same_work import Work, difference, fingerprint
from tests.unit.core.plans import a_plan
from tests.unit.core.test_same_work import BASE, SAME, WORK, but

NOT_ALONE = frozenset({"name", "base", "replica_index", "cell"})
"""Identity: a task that is compared has that of the other one."""
CHANGES = sorted(WORK)
PLACES = sorted(SAME.keys() - NOT_ALONE)


def work(task: PlannedTask, **plan: Any) -> Work:
    whole: Plan = msgspec.structs.replace(a_plan(task), tasks=(task,), **plan)
    return Work(task, PlannedArtifactUse(whole))


def changed(task: PlannedTask, fields: list[str], side: int) -> PlannedTask:
    """Return a task with the values that a table has for these fields, before (0) or after (1) a change."""
    values: dict[str, Any] = {}
    for field in fields:
        values[field] = getattr(WORK[field][side], field)
    return msgspec.structs.replace(task, **values)


@given(
    st.sets(st.sampled_from(CHANGES), max_size=6),
    st.sets(st.sampled_from(PLACES), max_size=6),
    st.integers(0, 1),
)
def test_a_fingerprint_changes_exactly_when_the_work_does(
    fields: set[str], places: set[str], side: int
) -> None:
    old = changed(BASE, sorted(fields), 0)
    new = changed(BASE, sorted(fields), side)
    new = msgspec.structs.replace(new, **{name: SAME[name] for name in places})
    said = difference(work(old), work(new))
    assert (fingerprint(work(old)) == fingerprint(work(new))) == (said is None), said


@pytest.mark.parametrize("field", CHANGES)
def test_each_part_of_the_work_is_in_the_fingerprint(field: str) -> None:
    old, new, _ = WORK[field]
    assert fingerprint(work(old)) != fingerprint(work(new))
    assert fingerprint(work(old)) == fingerprint(work(old))


@given(st.text(max_size=20), st.text(max_size=20))
def test_other_values_of_a_variable_have_other_fingerprints(one: str, other: str) -> None:
    marks = [fingerprint(work(but(env={"V": value}))) for value in (one, other)]
    assert (marks[0] == marks[1]) == (one == other)


def of_run(run: str, node: str, parent: str = "/out") -> Work:
    directory = f"{parent}/{run}"
    env = {
        "SFLOW_WORKFLOW_OUTPUT_DIR": directory,
        "SFLOW_OUTPUT_DIR": parent,
        "SFLOW_RUN_ID": run,
        "HEAD": node,
    }
    one = PlannedInput(name="x", variable="X", path="/data", stage="local", scratch=f"/tmp/sflow-{run}")
    task = but(env=env, script=f"train --out {directory}/train", inputs=(one,))
    nodes = (PlannedNode(index=0, backend="b", backend_index=0, name=node, address="", gpus=None),)
    return work(task, nodes=nodes)


def test_a_fingerprint_is_the_same_in_another_run_on_other_nodes() -> None:
    first = fingerprint(of_run("w-1", "n1"))
    assert first == fingerprint(of_run("w-2", "n9")) == fingerprint(of_run("w-3", "n1", "/elsewhere"))
    assert len(first) == 64


def test_contents_of_artifacts_and_files_count() -> None:
    task = but(script="train $DATA", reads=("/ws/f.py",))

    def mark(data: str, file: str) -> str:
        return fingerprint(work(task, artifacts={"DATA": "/d"}, contents={"DATA": data, "/ws/f.py": file}))

    assert len({mark("a", "1"), mark("b", "1"), mark("a", "2")}) == 3


def test_a_file_that_a_task_reads_makes_other_work_when_its_content_changes() -> None:
    task = but(reads=("/ws/f.py",))
    old, new, gone = (work(task, contents={"/ws/f.py": text}) for text in ("sha256:a", "sha256:b", MISSING))
    assert difference(old, new) == "its file /ws/f.py changed"
    assert difference(old, old) is None
    assert difference(old, gone) is None


def test_copies_without_keys_are_other_work_and_those_with_keys_only_if_they_look() -> None:
    def mark(index: int, **fields: Any) -> str:
        return fingerprint(work(but(replica_index=index, **fields)))

    assert mark(0) != mark(1)
    assert mark(0, key="a") == mark(1, key="b")
    looks = {"script": "echo $SFLOW_REPLICA_INDEX"}
    assert mark(0, key="a", **looks) != mark(1, key="b", **looks)
