"""What makes a task other work than it was: everything that its plan says, but its place and times."""

import msgspec
import pytest

from protocol.messages.checks import LogCheck, LogPattern, Probe
from protocol.messages.handover import CheckpointRules, OutputRule
from protocol.messages.rank_spec import (
    Bootstrap,
    Container,
    HangPolicy,
    PortBlock,
    RequiredFile,
    Stopping,
    Success,
)
from protocol.messages.uploads import FileUpload
from sflow_ctl.plan.artifact_mentions import PlannedArtifactUse
from sflow_ctl.plan.model import (
    DeferredExpression,
    Dependency,
    Placement,
    Plan,
    PlannedNode,
    PlannedTask,
)
from sflow_ctl.plan.parts.again import Quorum, Restart, Retries
from sflow_ctl.plan.parts.cells import BlockCall, Cell, Frame, PlannedForeach, PlannedItem
from sflow_ctl.plan.parts.launcher import AssignedArgument, Launcher
from sflow_ctl.plan.parts.needs import HostNeeds
from sflow_ctl.plan.results import (
    DeferredPort,
    PlannedFile,
    PlannedInput,
    PlannedOutput,
    PlannedResult,
    PlannedWhen,
)
from sflow_ctl.plan.same_work import Work, difference
from tests.unit.core.plans import a_plan, a_task

BASE = a_task("a")
FAILS = Probe(kind="failure", checks=(LogCheck(pattern=LogPattern(pattern="FATAL")),))
IMAGE = Container(engine="podman", image="x:1")


def between(
    old: PlannedTask, new: PlannedTask, old_plan: Plan | None = None, new_plan: Plan | None = None
) -> str:
    """The difference; empty for the same work."""
    plans = [
        msgspec.structs.replace(plan or a_plan(task), tasks=(task,))
        for plan, task in ((old_plan, old), (new_plan, new))
    ]
    works = [Work(task, PlannedArtifactUse(plan)) for plan, task in zip(plans, (old, new), strict=True)]
    return difference(*works) or ""


def but(task: PlannedTask = BASE, **fields: object) -> PlannedTask:
    return msgspec.structs.replace(task, **fields)


WORK: dict[str, tuple[PlannedTask, PlannedTask, str]] = {
    "script": (BASE, but(script="false", argv=("bash", "-c", "false")), "its script changed"),
    "operator_kind": (BASE, but(operator_kind="docker"), "its kind of operator changed from bash to docker"),
    "argv": (
        but(argv=("python3.11", "-c", "x")),
        but(argv=("python3.12", "-c", "x")),
        "its program changed from python3.11 to python3.12",
    ),
    "launch_kind": (BASE, but(launch_kind="ssh"), "its way of being started changed from process to ssh"),
    "env": (but(env={"V": "1"}), but(env={"V": "2"}), "its environment variable V changed from 1 to 2"),
    "bootstrap": (BASE, but(bootstrap=Bootstrap(name="conda")), "its environment changed"),
    "checkpoint": (
        BASE,
        but(checkpoint=CheckpointRules(directory="a", start="/start.pt")),
        "its checkpoint changed",
    ),
    "cwd": (BASE, but(cwd="/x"), "its working directory changed from nothing to /x"),
    "container": (
        but(container=IMAGE),
        but(container=msgspec.structs.replace(IMAGE, image="x:2")),
        "its image changed from x:1 to x:2",
    ),
    "depends_on": (BASE, but(depends_on=(Dependency(task="b"),)), "its dependencies changed"),
    "placement": (
        but(placement=Placement(nodes=(0,), gpus=(0,))),
        but(placement=Placement(nodes=(0,), gpus=(0, 1))),
        "its resources changed from 1 GPU on one node to 2 GPUs on one node",
    ),
    "ranks_per_node": (
        BASE,
        but(ranks_per_node=(5,)),
        "its number of processes on each node changed from 1 to 5",
    ),
    "launcher": (BASE, but(launcher=Launcher(kind="torchrun", processes=2)), "its launcher changed"),
    "kill_on_bad_exit": (BASE, but(kill_on_bad_exit=True), "its rule for processes that fail changed"),
    "kind": (BASE, but(kind="task"), "its kind changed from nothing to task"),
    "success_exit_codes": (
        BASE,
        but(success_exit_codes=(0, 3)),
        "its exit codes of success changed from 0 to 0, 3",
    ),
    "probes": (BASE, but(probes=(FAILS,)), "its probes changed"),
    "outputs": (BASE, but(outputs=(PlannedOutput(pattern="x = {x}"),)), "its outputs changed"),
    "found": (BASE, but(found=(OutputRule(name="x", kind="param"),)), "its outputs changed"),
    "inputs": (BASE, but(inputs=(PlannedInput(name="x", variable="X", path="/x"),)), "its inputs changed"),
    "result": (BASE, but(result=PlannedResult(file="r.json")), "its result changed"),
    "success": (BASE, but(success=Success(forbid=("bad",))), "its conditions of success changed"),
    "deferred": (
        BASE,
        but(deferred=(DeferredExpression(placeholder="${{ x }}", names={}),)),
        "its expressions on ports and outputs changed",
    ),
    "deferred_tcp_ports": (
        BASE,
        but(deferred_tcp_ports=(DeferredPort(key=FAILS.keys()[0], text="${{ x }}"),)),
        "its probe ports changed",
    ),
    "files": (BASE, but(files=(PlannedFile(path="x", content="1", mode=0o600),)), "its file x is new"),
    "ports": (BASE, but(ports=(PortBlock(name="http"),)), "its port http is new"),
    "has_master_port": (BASE, but(has_master_port=True), "its port to meet at changed"),
    "sweep": (BASE, but(sweep=(("LR", "1"),)), "its swept values changed"),
    "block": (but(block=BlockCall(block="fit")), but(block=BlockCall(block="scan")), "its block changed"),
    "frame": (
        but(frame=Frame(owner="fit", name="fit_0", inputs={"rate": 1})),
        but(frame=Frame(owner="fit", name="fit_0", inputs={"rate": 2})),
        "its use of a block that it belongs to changed",
    ),
    "item": (but(item=PlannedItem(value=1)), but(item=PlannedItem(value=2)), "its item changed"),
}
SAME: dict[str, object] = {
    "elsewhere": Placement(nodes=(0, 1), is_flexible=True), "pinned": "its file names its nodes",
    "name": "b", "base": "b", "replica_index": 3, "is_replicated": True, "operator": "other", "backend": "other",
    "assigned_arguments": (AssignedArgument(position=9, value="node_names"),), "has_step_variables": True,
    "keeps_gpus": True, "claims_nodes_until": "task_ready", "heeds_claims": True,
    "required_paths": (("x", "/x"),), "timeout_s": 9.0, "deadlines_s": (9.0,), "wait_s": 9.0,
    "hang": HangPolicy(no_output_s=3.0), "stopping": Stopping(grace_s=9.0), "retries": Retries(count=9),
    "restart": Restart(), "on_failure": "drain", "on_node_lost": "fail", "min_ready": 9, "quorum": Quorum(needed=1),
    "progress": "x(y)",
    "is_main": True, "finally_when": "after_stop",
    "is_log_direct": True, "console": "none", "needs": HostNeeds(cpus=2), "lends_gpus": True, "chooses_step_nodes": True,
    "where": "w.yaml:9:5", "cell": Cell(index=3, id="x", label="y"),
    "when": PlannedWhen(text="${{ x }}"), "foreach": PlannedForeach(max_parallel=2), "key": "fit-1", "reads": ("/ws/data.csv",),
    "uploads": (FileUpload(target="res", pattern="*"),), "removed_in": 2, "labels": (("stage", "train"),),
}  # fmt: skip


def test_r3_every_field_of_a_task_is_work_or_is_listed_as_not() -> None:
    assert sorted([*WORK, *SAME]) == sorted(PlannedTask.__struct_fields__)


@pytest.mark.parametrize("field", WORK)
def test_public_08_what_makes_other_work_is_named(field: str) -> None:
    old, new, expected = WORK[field]
    assert between(old, old) == between(new, new) == ""
    assert between(old, new) == expected
    assert between(new, old) != ""


@pytest.mark.parametrize("field", SAME)
def test_r3_place_and_time_make_no_other_work(field: str) -> None:
    assert between(BASE, msgspec.structs.replace(BASE, **{field: SAME[field]})) == ""


@pytest.mark.parametrize("field", ["delay_s", "interval_s", "timeout_s"])
def test_r3_the_times_of_a_probe_make_no_other_work(field: str) -> None:
    assert between(but(probes=(FAILS,)), but(probes=(msgspec.structs.replace(FAILS, **{field: 9.0}),))) == ""


def test_r3_another_job_with_other_nodes_is_the_same_work() -> None:
    """Found by chaos on the rig: each resume in another job ran everything again."""
    names = ("SFLOW_BACKEND_JOB_ID", "SFLOW_BACKEND_NODELIST", "SFLOW_BACKEND_NUM_NODES")
    old, new = ({**dict.fromkeys(names, text), "X": "same"} for text in ("1", "2"))
    assert between(but(env=old), but(env=new)) == ""
    assert between(but(env=old), but(env={**new, "X": "other"})) != ""


def test_r3_which_gpus_are_best_makes_no_other_work() -> None:
    place = Placement(nodes=(0, 1), is_flexible=True, gpus_per_node=2)
    chosen = msgspec.structs.replace(place, pack="nvlink", near="nic")
    assert between(but(placement=place), but(placement=chosen)) == ""


def test_r3_another_place_for_the_same_resources_is_the_same_work() -> None:
    old = but(placement=Placement(nodes=(0,), gpus=(0, 1)), env={"CUDA_VISIBLE_DEVICES": "0,1"})
    flexible = Placement(nodes=(0, 1), is_flexible=True, gpus_per_node=2)
    assert between(old, but(placement=Placement(nodes=(1,), gpus=(4, 5)))) == ""
    assert between(old, but(placement=flexible)) == ""


def on_nodes(*names: str) -> Plan:
    nodes = tuple(
        PlannedNode(index=i, backend="s", backend_index=i, name=name, address=f"10.0.{name[1:]}.1", gpus=None)
        for i, name in enumerate(names)
    )
    return msgspec.structs.replace(a_plan(), nodes=nodes)


def test_r3_names_and_addresses_of_nodes_are_place() -> None:
    def task(script: str) -> PlannedTask:
        return but(script=script, argv=("bash", "-c", script), env={"HEAD": script})

    first, second = on_nodes("n1", "n2"), on_nodes("n3", "n10")
    assert between(task("ping n1 10.0.1.1:80"), task("ping n3 10.0.3.1:80"), first, second) == ""
    assert between(task("ping n1"), task("ping n1"), first, second) == ""
    assert between(task("ping n1"), task("ping n10"), first, second) == "its script changed"
    assert between(task("ping n1 n5"), task("ping n3 n6"), first, second) == "its script changed"


def test_r3_a_steps_job_and_nodes_are_place_and_its_image_is_not() -> None:
    def step(job: str, node: str, image: str, extra: tuple[str, ...] = ()) -> PlannedTask:
        words = (
            "srun",
            "--jobid",
            job,
            "--nodelist",
            node,
            "--container-image",
            image,
            *extra,
            "bash",
            "-c",
            "true",
        )
        return but(argv=words, launch_kind="step")

    assert between(step("1", "n1", "x:1"), step("2", "n7", "x:1")) == ""
    assert between(step("1", "n1", "x:1"), step("1", "n1", "x:2")) == "its image changed from x:1 to x:2"
    changed = between(step("1", "n1", "x", ("--mem", "1G")), step("1", "n1", "x", ("--mem", "2G")))
    assert changed == "its option --mem changed from 1G to 2G"
    assert between(step("1", "n1", "x"), step("1", "n1", "x", ("--mem",))).startswith("its command line has ")


def test_r3_secrets_are_not_shown() -> None:
    plan = msgspec.structs.replace(a_plan(), secrets=("KEY",), variables={"KEY": "of the file"})
    old, new = but(env={"KEY": "hunter2", "U": "p:hunter2"}), but(env={"KEY": "hunter3", "U": "p:hunter2"})
    assert between(old, new, plan, plan) == "its environment variable KEY changed"
    said = between(old, but(env={"KEY": "hunter2", "U": "q:hunter2"}), plan, plan)
    assert said == "its environment variable U changed from p:*** to q:***"


def with_artifacts(contents: dict[str, str], files: tuple[tuple[str, str], ...] = (), **paths: str) -> Plan:
    return msgspec.structs.replace(
        a_plan(), artifacts={name: f"/{path}" for name, path in paths.items()}, contents=contents, files=files
    )


def reading(text: str, **env: str) -> PlannedTask:
    return but(script=text, argv=("bash", "-c", text), env={"SFLOW_WORKFLOW_OUTPUT_DIR": "/run", **env})


@pytest.mark.parametrize(
    "task",
    [
        reading("cat $DATA"),
        reading("cat ${DATA}/x"),
        reading("cat /d"),
        reading("python -c 'os.environ[\"DATA\"]'"),
        reading("cat $FILE", FILE="/d/x"),
        but(reading("true"), files=(PlannedFile(path="f", content="/d", mode=0o600),)),
        reading("program that reads its environment"),
    ],
)
def test_public_08_the_content_of_an_artifact_that_a_task_uses_is_work(task: PlannedTask) -> None:
    old, new = with_artifacts({"DATA": "sha256:1"}, DATA="d"), with_artifacts({"DATA": "sha256:2"}, DATA="d")
    assert between(task, task, old, new) == "the content of its artifact DATA changed"
    assert between(task, task, old, old) == ""


def test_public_08_a_task_that_names_others_than_the_changed_artifact_is_kept() -> None:
    old, new = (
        with_artifacts({"D": "1", "E": "1"}, D="d", E="e"),
        with_artifacts({"D": "2", "E": "1"}, D="d", E="e"),
    )
    user, other = reading("cat $D"), but(reading("cat $E"), name="b")
    plans = [msgspec.structs.replace(plan, tasks=(user, other)) for plan in (old, new)]
    uses = [PlannedArtifactUse(plan) for plan in plans]
    assert difference(Work(other, uses[0]), Work(other, uses[1])) is None
    assert difference(Work(user, uses[0]), Work(user, uses[1])) == "the content of its artifact D changed"


def test_public_08_inline_content_is_compared_and_stands_for_what_it_names() -> None:
    def plan(content: str) -> Plan:
        return with_artifacts({}, (("c.ini", content),), CONF="run/c.ini", DATA="d")

    task = reading("cat $CONF")
    assert between(task, task, plan("v1"), plan("v2")) == "the content of its artifact CONF changed"
    old, new = (msgspec.structs.replace(plan("read /d"), contents={"DATA": sum_}) for sum_ in ("1", "2"))
    assert between(task, task, old, new) == "the content of its artifact DATA changed"


def test_public_08_another_path_of_an_artifact_is_work_for_those_that_use_it() -> None:
    old, new = with_artifacts({}, D="d", E="e"), with_artifacts({}, D="other", E="e")
    user = reading("cat $D", D="/d")
    assert (
        between(user, reading("cat $D", D="/other"), old, new) == "its artifact D changed from /d to /other"
    )
    assert between(reading("cat $D"), user, with_artifacts({}, E="e"), old) == "its artifact D is new"
    assert between(user, reading("cat $D"), old, with_artifacts({}, E="e")) == "its artifact D is gone"


@pytest.mark.parametrize("now", [None, "missing", "not readable"])
def test_r3_an_artifact_that_cannot_be_looked_at_here_counts_as_unchanged(now: str | None) -> None:
    task = reading("cat $D")
    old = with_artifacts({"D": "sha256:1"}, D="d")
    new = with_artifacts({} if now is None else {"D": now}, D="d")
    assert between(task, task, old, new) == ""
    assert between(task, task, with_artifacts({"D": "missing"}, D="d"), old) != ""


def test_long_values_are_cut_and_success_conditions_compared_by_content() -> None:
    said = between(but(env={"V": "a" * 99}), but(env={"V": "b\n" * 99}))
    assert len(said) < 200
    assert "..." in said
    assert "\n" not in said
    one, other = (but(success=Success(files=(RequiredFile(path=path),))) for path in ("/x", "/y"))
    assert between(one, other) == "its conditions of success changed"


def test_how_checkpoints_are_found_makes_no_other_work() -> None:
    old, new = (but(checkpoint=CheckpointRules(directory=directory)) for directory in ("a", "b"))
    assert between(BASE, old) == between(old, new) == ""
