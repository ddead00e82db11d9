"""`plan.json` gives back the plan that was written, and copies of a task cost little in it."""

from pathlib import Path

import msgspec
import pytest

from protocol.text.masking import Mask
from sflow_ctl.plan.model import Dependency, Plan
from sflow_ctl.runtime.record.plan_file import PlanFile, decode_plan, encode_plan
from tests.unit.planner.planning import plan_of

WORKFLOW = """
variables: {A: {value: 1, domain: [1, 2]}, KEY: hush}
secrets: [KEY]
workflow:
  name: w
  tasks:
    - {name: prepare, script: ["true"]}
    - {name: swept, replicas: {variables: [A]}, script: ["echo ${{ variables.A }}"], depends_on: [prepare]}
    - {name: many, replicas: {count: 50}, script: ["work"]}
    - {name: last, script: ["true"], depends_on: [many], probes: {readiness: {tcp_port: {port: 5}}}}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, WORKFLOW)


def test_a_plan_survives_its_file(plan: Plan) -> None:
    assert decode_plan(b"".join(encode_plan(plan))) == plan


def test_copies_are_one_line_and_share_everything_else_when_read(plan: Plan) -> None:
    lines = b"".join(encode_plan(plan)).splitlines()
    (rest,) = [line for line in lines if line.startswith(b'{"like":"many_0"')]
    assert msgspec.json.decode(rest.rstrip(b",")) == {"like": "many_0", "copies": 50}
    read = {task.name: task for task in decode_plan(b"\n".join(lines)).tasks}
    assert read["many_7"].env is read["many_0"].env
    assert read["many_7"].argv is read["many_0"].argv
    assert read["many_7"].environment["SFLOW_TASK_NAME"] == "many_7"


def test_copies_in_places_of_their_own_are_written_as_what_differs(tmp_path: Path) -> None:
    text = "workflow: {name: w, tasks: [{name: t, replicas: {count: 4}, script: [x], resources: {gpus: {count: 1}}}]}"
    plan = plan_of(tmp_path, text, gpus_per_node_override=4)
    lines = b"".join(encode_plan(plan)).splitlines()
    (last,) = [line for line in lines if b'"t_3"' in line]
    assert {"like", "name", "replica_index", "placement"} <= set(msgspec.json.decode(last))
    read = decode_plan(b"\n".join(lines))
    assert read == plan
    assert read.tasks[3].argv is read.tasks[0].argv


def test_a_chain_of_copies_is_one_line(tmp_path: Path) -> None:
    chain = "{name: t, replicas: {count: 4, policy: sequential}, script: [x]}"
    plan = plan_of(
        tmp_path, f"workflow: {{name: w, tasks: [{chain}, {{name: u, script: [y], depends_on: [t]}}]}}"
    )
    written = b"".join(encode_plan(plan))
    assert b'{"like":"t_0","copies":4,"chain_until":"completed"}' in written
    assert [task.depends_on for task in decode_plan(written).tasks] == [
        (), *((Dependency(task=f"t_{before}", until="completed"),) for before in range(3)), (Dependency(task="t_3"),)
    ]  # fmt: skip


def test_a_copy_that_differs_much_is_written_whole(plan: Plan) -> None:
    first, second = (task for task in plan.tasks if task.base == "swept")
    other = msgspec.structs.replace(
        second, script="x", argv=("x",), env={}, cwd="/", pinned="p", is_main=True, kill_on_bad_exit=True,
        wait_s=1.0, lends_gpus=True, has_step_variables=True, ranks_per_node=(2,), timeout_s=1.0, min_ready=2,
    )  # fmt: skip
    changed = msgspec.structs.replace(plan, tasks=(first, other))
    assert b'"like"' not in b"".join(encode_plan(changed))
    assert decode_plan(b"".join(encode_plan(changed))) == changed


def test_an_empty_plan_and_one_of_exactly_one_batch_survive(plan: Plan) -> None:
    for count in (0, 1, 1000, 1001):
        tasks = tuple(msgspec.structs.replace(plan.tasks[0], name=f"t{index}") for index in range(count))
        changed = msgspec.structs.replace(plan, tasks=tasks)
        assert decode_plan(b"".join(encode_plan(changed))) == changed


def test_secrets_are_masked_in_every_line(plan: Plan) -> None:
    mask = Mask([("KEY", "hush")])
    written = b"".join(encode_plan(plan, mask.data))
    assert b"hush" not in written
    assert len(decode_plan(written).tasks) == len(plan.tasks)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"tasks":[]}', b'{"workflow":"w","nodes":[],"tasks":[{"like":"nobody"}]}',
     b'{"workflow":"w","nodes":[],"tasks":[{"name":"a"}]}',
     b'{"workflow":"w","nodes":[],"tasks":[{"like":"a_0","copies":3}]}'],
)  # fmt: skip
def test_another_content_is_a_decoding_error(content: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_plan(content)


def test_a_viewer_decodes_only_the_tasks_that_it_shows(plan: Plan) -> None:
    file = PlanFile(b"".join(encode_plan(plan)))
    assert file.names() == [task.name for task in plan.tasks]
    assert file.head == msgspec.structs.replace(plan, tasks=())
    assert file.plan() == plan
    shown = file.plan_with({"many_7", "last", "unknown"})
    assert [task.name for task in shown.tasks] == ["many_0", "many_7", "last"], (
        "in order, with what they are like"
    )
    assert {task.name: task for task in shown.tasks}.items() <= {
        task.name: task for task in plan.tasks
    }.items()
