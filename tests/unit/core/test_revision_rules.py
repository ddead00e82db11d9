"""What a live run cannot take on of another plan, and which tasks a variable of the workflow counts for."""

from collections.abc import Callable

import msgspec
import pytest

from protocol.messages.uploads import FileUpload
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.revisions.refusals import refusals
from sflow_ctl.plan.revisions.variable_use import SharedVariables
from tests.unit.core.plans import a_plan, a_task

BASE = a_plan(a_task("a"), nodes=2, gpus=4)


def but(**fields: object) -> Plan:
    return msgspec.structs.replace(BASE, **fields)


def on_backend(name: str) -> Plan:
    return but(nodes=tuple(msgspec.structs.replace(node, backend=name) for node in BASE.nodes))


def test_the_same_plan_is_not_refused() -> None:
    assert refusals(BASE, but()) == []
    assert refusals(BASE, but(tasks=(a_task("a"), a_task("b")), max_running=3)) == []


@pytest.mark.parametrize(
    ("make", "field", "text"),
    [
        (
            lambda: but(workflow="w2"),
            ("workflow", "name"),
            "the run is of workflow test, this is workflow w2",
        ),
        (lambda: but(nodes=BASE.nodes[:1]), ("backends", "local"), "backend local has 1 node instead of 2"),
        (
            lambda: but(nodes=tuple(msgspec.structs.replace(node, gpus=8) for node in BASE.nodes)),
            ("backends", "local"),
            "backend local changed (gpus)",
        ),
        (
            lambda: but(upload_all=FileUpload(target="t", pattern="**")),
            ("storage",),
            "where files are uploaded cannot change",
        ),
        (lambda: but(services_may_leave=True), (), "the run keeps to the rules of the version"),
    ],
)
def test_what_a_live_run_cannot_take_on_is_named(
    make: Callable[[], Plan], field: tuple[str, ...], text: str
) -> None:
    (found,) = refusals(BASE, make())
    assert found.field == field
    assert found.what.startswith(text)
    assert found.hint


def test_another_backend_is_refused_as_new_and_as_gone() -> None:
    gone, new = refusals(BASE, on_backend("pool"))
    assert (gone.field, new.field) == (("backends", "local"), ("backends", "pool"))
    assert gone.what.startswith("no task uses backend local any more")
    assert new.what.startswith("backend pool is new")


def test_a_variable_counts_for_the_tasks_that_name_it() -> None:
    named = msgspec.structs.replace(a_task("named"), script="echo $RATE")
    valued = msgspec.structs.replace(a_task("valued"), env={"OPTIONS": "--rate ${RATE}"})
    own = msgspec.structs.replace(a_task("own"), script="echo $RATES", env={"RATE": "9"})
    plan = msgspec.structs.replace(a_plan(named, valued, own), variables={"RATE": 5, "FREE": [1, "b"]})
    shared = SharedVariables(plan)
    assert shared.uses(named, "RATE")
    assert shared.uses(valued, "RATE")
    assert not shared.uses(own, "RATE")  # RATES is another word
    assert all(shared.uses(task, "FREE") for task in plan.tasks)  # which no task names: any may read it


def test_a_task_shares_the_value_of_the_workflow_or_has_its_own() -> None:
    values = {"RATE": 5, "FREE": [1, "b"], "NAME": "x"}
    shares = msgspec.structs.replace(a_task("shares"), env={"RATE": "5", "FREE": '[1,"b"]', "NAME": "x"})
    own = msgspec.structs.replace(a_task("own"), env={"RATE": "9"})
    shared = SharedVariables(msgspec.structs.replace(a_plan(shares, own), variables=values))
    assert all(shared.is_shared(shares, name) for name in values)
    assert not shared.is_shared(own, "RATE")
