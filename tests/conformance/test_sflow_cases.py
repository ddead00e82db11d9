"""The cases of sflow 0.3.1, one file a rule: what each plans here. The head of a file says what sflow does with it.

`tests/integration/test_sflow_cases.py` runs those that can run on this machine.
"""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from protocol.errors import FleetError
from sflow_ctl.batch.slurm_request import slurm_requests
from sflow_ctl.core.model.rank_specs import rank_specs
from sflow_ctl.core.model.task import build_graph
from sflow_ctl.format.compose import compose
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.format.loader import LoadedDocument, load_documents
from sflow_ctl.plan.deferred import DeferredValues
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.engine_host import EngineHost
from sflow_ctl.planner.context import JobNode, PlanContext
from sflow_ctl.planner.phases.node_filter import NodeFilter
from sflow_ctl.planner.pipeline import build_plan
from sflow_ctl.planner.show.plan_json import to_json
from sflow_ctl.planner.show.text import plan_text
from sflow_ctl.runtime.slurm.own_allocation import salloc_argv
from tests.unit.planner import planning

HERE = Path(__file__).parent / "sflow_0_3"
CONTEXT = replace(planning.CONTEXT, allow_placeholder_nodes=True, may_lack_artifacts=True)


def loaded(*names: str) -> LoadedDocument:
    """Read cases; a name is the beginning of a file's."""
    return load_documents([next(HERE.glob(f"{name}*.yaml")) for name in names])


def planned(*names: str, context: PlanContext = CONTEXT) -> Plan:
    """Plan cases. Raises: SpecError, PlanError."""
    return build_plan(loaded(*names), context)


def test_every_case_is_planned_here_and_run_or_excused_there() -> None:
    cases = {path.name[:2] for path in HERE.glob("*.yaml")}
    assert cases == {f"{number:02}" for number in range(1, 34)}
    planned_here = {number for name in globals() for number in re.findall(r"(?<=_)\d\d(?=_)", name)}
    assert planned_here >= cases, cases - planned_here
    there = (Path(__file__).parents[1] / "integration" / "test_sflow_cases.py").read_text()
    run_there = {
        number
        for name in re.findall(r"^def test(\w+)", there, re.MULTILINE)
        for number in re.findall(r"\d\d", name)
    }
    assert run_there == cases, cases - run_there


def scripts(plan: Plan) -> dict[str, str]:
    """Return the scripts by task."""
    return {task.name: task.script for task in plan.tasks}


def waits(plan: Plan, task: str) -> list[str]:
    """Return what a task depends on."""
    return [one.task for one in next(one for one in plan.tasks if one.name == task).depends_on]


def test_01_required_by() -> None:
    plan = planned("01")
    assert waits(plan, "bench") == ["load"]
    assert waits(plan, "load") == []
    assert not plan.warnings
    assert [note.what for note in plan.notes] == [
        'task "load" is required by "ghost", which is not a task of this workflow: passed over',
        'task "load" is required by "load", which is itself: passed over',
    ]
    assert "passed over" in plan_text(plan)
    text = compose(loaded("01"))
    assert "required_by:\n    - bench\n    - ghost\n    - load" in text
    assert "depends_on" not in text


def test_02_deep_merge() -> None:
    document = loaded("02-merge-a", "02-merge-b").document
    plan = planned("02-merge-a", "02-merge-b")
    assert plan.workflow == "second"
    assert [task.name for task in plan.tasks] == ["prep", "main", "extra"]
    main = plan.tasks[1]
    assert main.script == "echo from b $X"
    assert main.depends_on == ()
    assert (main.retries.count, main.retries.interval_s) == (1, 5.0)
    (probe,) = main.probes
    assert probe.interval_s == 2.0
    assert "from" in str(probe.checks)
    assert document.operators[0].type == "bash"
    assert (document.variables[0].value, document.variables[0].description) == (2, "kept")
    assert sorted(
        one.what.rpartition(" from ")[0] for one in plan.warnings if one.code == "merged-value"
    ) == [
        "variables.X.value is 2 and replaces 1",
        'workflow.name is "second" and replaces "first"',
        'workflow.tasks.main.depends_on is [] and replaces ["prep"]',
        "workflow.tasks.main.probes.readiness.interval is 2 and replaces 9",
        "workflow.tasks.main.retries.count is 1 and replaces 3",
        'workflow.tasks.main.script is ["echo from b $X"] and replaces ["echo from a"]',
    ]
    assert all(one.where and "02-merge-b" in one.where for one in plan.warnings if one.code == "merged-value")


def test_03_script_lines_with_a_colon() -> None:
    plan = planned("03")
    assert plan.tasks[0].script == 'echo "rate: 5"\necho on: yes\necho mode: 010'
    assert len([one for one in plan.warnings if one.code == "script-colon"]) == 3


def test_04_fail_fast() -> None:
    argv = {task.name: task.argv[-1] for task in planned("04").tasks}
    assert argv["lax"] == "false\necho after"
    assert argv["strict"].startswith("set -e; false")
    assert argv["py"] == "print('source')"


def test_05_variables_have_a_domain() -> None:
    assert planned("05").tasks[0].script.splitlines() == [
        'echo "domain=[1, 4, 16]"',
        'echo "max=16 model=llama"',
        'echo "typed=32 in-variable=8 untyped=8"',
    ]


def test_06_swept_values_in_every_line() -> None:
    found = scripts(planned("06"))
    assert 'echo "own=1 twice=2 shell=$C"' in found["t_1"]
    assert 'echo "own=4 twice=8 shell=$C"' in found["t_4"]
    assert 'echo "mixed=1 on localhost"' in found["t_1"]


def test_07_late_globals() -> None:
    env = planned("07").tasks[0].env
    assert env["HEAD"] == "127.0.0.1"
    assert env["URL"] == "http://127.0.0.1:80"
    assert env["CONF"].endswith("/conf.txt")


def places(plan: Plan) -> dict[str, tuple[list[str], list[int]]]:
    """Return the names of nodes and the GPU numbers of each task; all have places."""
    assert not any(task.placement.is_flexible for task in plan.tasks), plan_text(plan)
    return {
        task.name: ([plan.nodes[node].name for node in task.placement.nodes], list(task.placement.gpus))
        for task in plan.tasks
    }


def changed(folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    """Write a case with changes, each of which must apply, and return its path."""
    text = next(HERE.glob(f"{name}*.yaml")).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / "w.yaml"
    file.write_text(text)
    return file


def refused(file: Path, context: PlanContext = CONTEXT, **options: str) -> str:
    """Return the text of the only finding about a file."""
    with pytest.raises(FleetError) as raised:
        build_plan(load_documents([file], **options), context)  # type: ignore[arg-type]
    (finding,) = raised.value.findings
    return str(finding)


STRICT = replace(CONTEXT, compat="0.3.1")


def test_08_gpu_indices(tmp_path: Path) -> None:
    assert places(planned("08")) == {
        "high": (["localhost"], [2, 3]),
        "both": (["localhost", "localhost-1"], [1, 0]),
        "back": (["localhost-1"], [3]),
    }
    env = {task.name: task.env["CUDA_VISIBLE_DEVICES"] for task in planned("08").tasks}
    assert env == {"high": "2,3", "both": "1,0", "back": "3"}
    taken = changed(tmp_path, "08", ("#   - {name: low", "    - {name: low"))
    assert "already reserved" in refused(taken, STRICT)
    low = build_plan(load_documents([taken]), CONTEXT).tasks[-1]
    assert (low.placement.nodes, low.placement.gpus) == ((0,), (0,))  # waits for it


def test_09_gpus_are_given_again() -> None:
    node = ["localhost"]
    assert places(planned("09")) == {
        "train": (node, [0, 1, 2, 3]),
        "eval": (node, [0, 1, 2, 3]),
        "report": (node, [0]),
    }


def test_10_gpus_are_shared_after_ready(tmp_path: Path) -> None:
    plan = planned("10")
    assert places(plan) == {"init": (["localhost"], [0, 1]), "serve": (["localhost"], [0, 1])}
    assert [task.lends_gpus for task in plan.tasks] == [True, False]
    for policy in ("", ", release_after: task_completion", ", release_after: workflow_completion"):
        file = changed(tmp_path, "10", (", release_after: task_ready", policy))
        assert "remain available" in refused(file)
        assert "remain available" in refused(file, STRICT)


def test_11_gpus_divide_among_nodes(tmp_path: Path) -> None:
    file = changed(tmp_path, "11")
    assert "multiple of the node count" in refused(file)
    assert "use 4 for 2 on each" in refused(file)
    plan = build_plan(load_documents([changed(tmp_path, "11", ("count: 3", "count: 4"))]), CONTEXT)
    assert places(plan) == {"t": (["localhost", "localhost-1"], [0, 1])}


def test_12_nodes_are_claimed(tmp_path: Path) -> None:
    plan = planned("12")
    found = {name: nodes for name, (nodes, _) in places(plan).items()}
    assert found == {
        "a": ["localhost"],
        "b": ["localhost-1"],
        "c": ["localhost-2"],
        "later": ["localhost"],
        "plain": ["localhost-2"],
    }
    assert [note.what for note in plan.notes] == [
        'task "plain" gets 1 of 3 nodes: the others are claimed by a, b'
    ]
    strict = planned("12", context=STRICT)
    assert len(places(strict)["plain"][0]) == 3
    file = changed(tmp_path, "12", ("count: 1}}}\n", "indices: [0]}}}\n"))
    assert "do not remain available" in refused(file)


def test_13_nodes_are_picked() -> None:
    assert {name: nodes for name, (nodes, _) in places(planned("13")).items()} == {
        "last": ["localhost-3"],
        "some": ["localhost-1", "localhost-3"],
        "first_of": ["localhost-2"],
        "rest": ["localhost-2", "localhost-3"],
    }


def test_14_places_in_the_order_of_dependencies() -> None:
    assert places(planned("14")) == {"client": (["localhost"], [2, 3]), "server": (["localhost"], [0, 1])}
    earlier = planned("14", context=replace(CONTEXT, compat="0.2"))
    assert places(earlier) == {"client": (["localhost"], [0, 1]), "server": (["localhost"], [2, 3])}


def test_sequential_replicas_get_the_same_gpus(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(
        'version: "0.1"\nbackends: {p: {type: local, gpus_per_node: 1}}\nworkflow:\n  name: w\n  tasks:\n'
        "    - {name: t, script: [x], replicas: {count: 5, policy: sequential}, resources: {gpus: {count: 1}}}\n"
        "    - {name: u, script: [x], depends_on: [t], resources: {gpus: {count: 1}}}\n"
    )
    plan = build_plan(load_documents([file]), CONTEXT)
    assert {tuple(gpus) for _, gpus in places(plan).values()} == {(0,)}


def test_15_a_pool_without_gpus() -> None:
    (task,) = planned("15").tasks
    assert "CUDA_VISIBLE_DEVICES" not in task.env


def test_15_a_pool_without_gpus_has_none_for_a_task(tmp_path: Path) -> None:
    text = next(HERE.glob("15*.yaml")).read_text()
    file = tmp_path / "w.yaml"
    file.write_text(text.replace("script: [", "resources: {gpus: {count: 1}}, script: ["))
    with pytest.raises(FleetError) as raised:
        build_plan(load_documents([file]), CONTEXT)
    (finding,) = raised.value.findings
    assert finding.code == "gpus-do-not-fit"


def test_22_result_by_patterns() -> None:
    quick, full = loaded("22").document.workflow.tasks
    assert quick.result is not None
    assert full.result is not None
    assert [(one.name, one.regex) for one in quick.result.patterns or ()] == [
        ("ttft", r"TTFT:\s*([0-9.]+)"),
        ("tps", r"tok/s:\s*([0-9]+)"),
    ]
    assert [one.aggregate for one in full.result.patterns or ()] == ["list", "count", "min", "last", "last"]


@pytest.mark.parametrize(
    ("old", "new", "phrase"),
    [
        ("{target: res, from: out.txt}", "{target: rse, from: out.txt}", "references unknown storage target"),
        ("workflow:\n", "  - {name: res, type: s3, bucket: other}\nworkflow:\n", "res"),
        ("from: out.txt", "from: '*.txt', to: x", "must end with '/'"),
    ],
)
def test_24_storage_is_checked(tmp_path: Path, old: str, new: str, phrase: str) -> None:
    assert phrase in refused(changed(tmp_path, "24", (old, new)))


def test_24_storage() -> None:
    plan = planned("24")
    text = plan_text(plan)
    assert "  - t: /out/run/t/*.txt to s3://bucket/runs/7/x/*.txt\n" in text
    assert "  - r_0: out.txt to s3://bucket/runs/7/out_r_0.txt\n" in text
    assert "  - r_1: out.txt to s3://bucket/runs/7/out_r_1.txt\n" in text
    assert "as one archive to s3://bucket/runs/7/run.zip" in text
    assert [one.code for one in plan.warnings] == ["upload-names"]


def test_23_a_file_and_other_keys_are_metrics_and_a_warning(tmp_path: Path) -> None:
    text = "result: {file: a.json, x: 'x=(.)'}"
    file = changed(
        tmp_path,
        "23",
        ("result: {file: my.json}}", text + "}"),
        ("      result: {file: my.json}\n", f"      {text}\n"),
    )
    plan = build_plan(load_documents([file]), CONTEXT)
    assert plan.tasks[0].result is not None
    assert [one.name for one in plan.tasks[0].result.patterns] == ["file", "x"]
    assert any("file" in one.what for one in plan.warnings)


def test_22_and_23_results_are_planned() -> None:
    quick, full = planned("22").tasks
    assert [one.name for one in quick.result.patterns] == ["ttft", "tps"] if quick.result else False
    assert full.result is not None
    assert [one.name for one in full.result.patterns if one.is_required] == ["missing"]
    maker, none, user = planned("23").tasks
    assert maker.result is not None
    assert maker.result == none.result
    assert (maker.result.file, user.result) == ("my.json", None)
    assert user.env["SFLOW_WORKFLOW_RESULT_FILE"].endswith("/results.json")
    assert user.environment["SFLOW_TASK_RESULT_FILE"].endswith("/user/result.json")


def test_25_monitors_are_planned() -> None:
    whole, of_work = planned("25").monitors
    assert [(one.scope, one.interval_ms) for one in whole.scopes] == [("cpu", 500), ("memory", 1000)]
    assert (of_work.task, of_work.window is not None) == ("work", True)


def test_27_an_unknown_key_of_an_override() -> None:
    with pytest.raises(FleetError) as raised:
        planned("27")
    (finding,) = raised.value.findings
    assert "ntasks_per_nod" in finding.what
    assert raised.value.exit_status == 2


def test_28_docker_pools() -> None:
    plan = planned("28")
    task, two = plan.tasks
    assert (task.operator, task.operator_kind) == ("default_box", "docker_run")
    assert task.container is not None
    assert task.container.image == "ubuntu:22.04"
    assert task.container.directories
    assert task.placement.gpus == (0, 1)
    assert [plan.nodes[index].name for index in two.placement.nodes] == ["a", "b"]
    assert [plan.nodes[index].gpus for index in two.placement.nodes] == [4, 4]
    assert [plan.nodes[index].address for index in two.placement.nodes] == ["10.0.0.1", "10.0.0.2"]


def test_28_hosts_of_docker_are_nodes() -> None:
    plan = planned("28", context=replace(CONTEXT, allow_placeholder_nodes=False))
    here, a, b = plan.nodes
    assert here.engine_host is None
    assert a.engine_host == EngineHost(docker_host="ssh://a")
    assert b.engine_host == EngineHost(context="b")
    two = plan.tasks[1]
    assert two.ranks_per_node == (1, 1)
    task = next(one for one in build_graph(plan) if one.plan is two)
    task.begin_attempt(two.placement, 0.0)
    task.attempt.fill_in(two, DeferredValues(plan, {}, lambda name: None, EVALUATOR).rendered(two, {}))
    specs = [spec.container for _, spec in rank_specs(task, plan, stream=False)]
    assert [(one.docker_host, one.context) for one in specs if one] == [("ssh://a", None), (None, "b")]


def test_29_kubernetes_is_one_finding() -> None:
    with pytest.raises(FleetError) as raised:
        planned("29")
    (finding,) = raised.value.findings
    assert finding.code == "backend-unsupported"
    assert 'backend "k" is of type kubernetes' in finding.what
    assert raised.value.exit_status == 2
    assert "rdma: auto" in compose(loaded("29"))
    assert planned("29", context=replace(CONTEXT, shows_unsupported=True)).tasks[0].name == "t"


def test_29_a_plan_without_the_pool(tmp_path: Path) -> None:
    text = next(HERE.glob("29*.yaml")).read_text()
    text += '    - {name: here, script: ["true"], backend: l, depends_on: [t]}\n'
    file = tmp_path / "w.yaml"
    file.write_text(
        text.replace("backends:\n", "backends:\n  l: {type: local}\n").replace(
            "operator: op", "operator: op, backend: k"
        )
    )
    plan = build_plan(load_documents([file]), replace(CONTEXT, ignored_backends=frozenset({"k"})))
    (task,) = plan.tasks
    assert task.name == "here"
    assert task.depends_on == ()
    assert [one.what for one in plan.warnings] == ["left out with their backends: t"]
    with pytest.raises(FleetError) as raised:
        build_plan(load_documents([file]), replace(CONTEXT, ignored_backends=frozenset({"kk"})))
    assert 'backend "kk" is not defined' in str(raised.value)


def test_16_the_timeout_of_readiness_is_a_deadline() -> None:
    server, client = planned("16").tasks
    assert (server.deadline_s, server.probes[0].timeout_s) == (3.0, 30.0)
    assert client.deadline_s is None
    earlier = planned("16", context=replace(CONTEXT, compat="0.2")).tasks[0]
    assert (earlier.deadline_s, earlier.probes[0].timeout_s) == (None, 3.0)
    assert planned("18").tasks[0].deadline_s == 1200.0


@pytest.mark.parametrize(
    ("probe", "deadline_s", "check_s"),
    [
        ("{tcp_port: {port: 1}, timeout: 0}", None, 30.0),
        ("{tcp_port: {port: 1}, timeout: 9, each_check_timeout: 2}", 9.0, 2.0),
        ("{tcp_port: {port: 1}, each_check_timeout: 0}", 1200.0, 1.0),
        ("{tcp_port: {port: 1}, timeout: 4, deadline: 50}", 50.0, 4.0),
        ("{tcp_port: {port: 1}, deadline: 0}", None, 60.0),
        ("{exec: {command: x}, timeout: 4}", 1200.0, 4.0),
        ("{all: [{exec: {command: x}}], timeout: 4}", 1200.0, 4.0),
        ("[{tcp_port: {port: 1}, timeout: 9}, {tcp_port: {port: 2}, timeout: 90}]", 90.0, 30.0),
        ("[{tcp_port: {port: 1}, timeout: 9}, {tcp_port: {port: 2}, timeout: 0}]", None, 30.0),
    ],
)
def test_timeouts_of_readiness(tmp_path: Path, probe: str, deadline_s: float | None, check_s: float) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(
        'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n'
        f"    - {{name: t, script: [x], probes: {{readiness: {probe}}}}}\n"
    )
    (task,) = build_plan(load_documents([file]), CONTEXT).tasks
    assert (task.deadline_s, task.probes[0].timeout_s) == (deadline_s, check_s)


def test_17_lists_of_probes() -> None:
    server, _, bad = planned("17").tasks
    assert [len(probe.parts) for probe in server.probes] == [2]
    assert [part.threshold for part in bad.probes[0].parts] == [3, 1]
    assert "and once" in plan_text(planned("17"))


def test_17_each_probe_of_a_list_has_its_own_times(tmp_path: Path) -> None:
    listed = (
        "{log_watch: {match_pattern: up}, timeout: 9, interval: 1}, "
        "{all: [{exec: {command: x}}, {tcp_port: {port: 2}}], deadline: 90, timeout: 4}, "
        "{any: [{tcp_port: {port: 3}}], deadline: 0}, {exec: {command: y}}"
    )
    file = tmp_path / "w.yaml"
    file.write_text(
        'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n'
        f"    - {{name: t, script: [x], probes: {{readiness: [{listed}]}}}}\n"
    )
    plan = build_plan(load_documents([file]), CONTEXT)
    (task,) = plan.tasks
    assert task.deadlines_s == (9.0, 90.0, None, 1200.0)
    (probe,) = task.probes
    assert [(part.part, part.timeout_s, part.needs_all, part.interval_s) for part in probe.parts] == [
        (0, 30.0, True, 1.0),
        (1, 4.0, True, 5.0),
        (2, 60.0, False, 5.0),
        (3, 60.0, True, 5.0),
    ]
    shown = "probe 1 within 9 s, probe 2 within 90 s, probe 3 without limit, probe 4 within 1200 s"
    assert shown in plan_text(plan)
    as_json = to_json(plan)["tasks"][0]["probes"][0]
    assert [as_json["deadline_s"], *(one["deadline_s"] for one in as_json["also"])] == [
        9.0,
        90.0,
        None,
        1200.0,
    ]


def test_16_strict_does_not_try_a_late_service_again() -> None:
    assert planned("16", context=STRICT).late_is_final
    assert not planned("16").late_is_final


def test_21_ports_as_a_list() -> None:
    api, client = planned("21").tasks
    assert client.script == "echo 127.0.0.1 18000 http://127.0.0.1:18000"
    assert "http://127.0.0.1:18000/" in str(api.probes[0].checks)
    assert not api.ports


def test_21_a_service_may_be_planned_before_its_address_is_known(tmp_path: Path) -> None:
    """The agents of a Slurm job report their addresses; until then the plan has placeholders."""
    pool = "backends: {p: {type: slurm, account: a, partition: p, time: 5, nodes: 1, gpus_per_node: 0}}\nworkflow:"
    file = changed(tmp_path, "21", ("workflow:", pool))
    for address, shown in (("0.0.0.0", "0.0.0.0"), ("10.0.0.7", "10.0.0.7"), ("fd00::7", "[fd00::7]")):
        context = replace(CONTEXT, job_nodes=(JobNode("n1", address),), job_id="7")
        api, client = build_plan(load_documents([file]), context).tasks
        assert client.script == f"echo {address} 18000 http://{shown}:18000"
        assert f"http://{shown}:18000/" in str(api.probes[0].checks)


def test_26_environment() -> None:
    (task,) = planned("26").tasks
    assert task.environment["SFLOW_TASK_RESULT_FILE"].endswith("/t/result.json")
    assert task.env["SFLOW_WORKFLOW_RESULT_FILE"].endswith("/results.json")
    assert task.env["SFLOW_BACKEND_NUM_NODES"] == "1"


def test_30_two_slurm_pools() -> None:
    big, small = planned("30").tasks
    plan = planned("30")
    assert [plan.nodes[node].backend for node in big.placement.nodes] == ["gpu", "gpu"]
    assert big.placement.gpus == (0, 1, 2, 3)
    assert [plan.nodes[node].backend for node in small.placement.nodes] == ["cpu"]
    assert "CUDA_VISIBLE_DEVICES" not in small.env
    gpu, cpu = slurm_requests(loaded("30"))
    assert [(one.backend, one.partition, one.nodes) for one in (gpu, cpu)] == [
        ("gpu", "g", 2),
        ("cpu", "c", 1),
    ]
    asked = salloc_argv(gpu, "w", ("-q", "high"))
    assert asked[-4:] == ("--nodelist=n1,n2", "--exclude=n9", "-q", "high")
    assert salloc_argv(gpu, "w", ("--exclude=n8",))[-2:] == ("--nodelist=n1,n2", "--exclude=n8")
    assert cpu.extra_args == ()
    more, of_cpu = slurm_requests(loaded("30"), NodeFilter(("n3",), ("n8 n7",)))
    assert more.extra_args == ("--nodelist=n1,n2,n3", "--exclude=n9,n8,n7")
    assert of_cpu.extra_args == ("--nodelist=n3", "--exclude=n8,n7")


def in_jobs(**nodes: tuple[str, ...]) -> PlanContext:
    """Return the context of a run whose backends have jobs of their own."""
    known = tuple(
        JobNode(name, f"10.0.0.{index}", job_id=f"{len(backend)}{index}", backend=backend)
        for backend, names in nodes.items()
        for index, name in enumerate(names)
    )
    return replace(CONTEXT, job_nodes=known, job_id="7", allow_placeholder_nodes=False)


def test_30_each_pool_has_the_nodes_of_its_own_job(tmp_path: Path) -> None:
    """Also nodes of the same name: two jobs may share a node."""
    plan = planned("30", context=in_jobs(gpu=("n1", "n2"), cpu=("n2",)))
    assert [(node.backend, node.name, node.job_id) for node in plan.nodes] == [
        ("gpu", "n1", "30"),
        ("gpu", "n2", "31"),
        ("cpu", "n2", "30"),
    ]
    big, small = plan.tasks
    assert (big.placement.nodes, small.placement.nodes) == ((0, 1), (2,))
    assert (big.env["SFLOW_BACKEND_JOB_ID"], small.env["SFLOW_BACKEND_NODELIST"]) == ("30", "n2")
    assert not plan.warnings
    file = changed(tmp_path, "30", ("gpus: {count: 8}", "gpus: {count: 4}"))
    fewer = build_plan(load_documents([file]), in_jobs(gpu=("n1",), cpu=("n5",)))
    assert [warning.code for warning in fewer.warnings] == ["other-node-count"]


def test_30_pools_share_a_job_that_is_large_enough() -> None:
    shared = tuple(JobNode(name, job_id="7") for name in ("n1", "n2", "n3"))
    plan = planned("30", context=replace(CONTEXT, job_nodes=shared, job_id="7"))
    assert [(node.backend, node.name) for node in plan.nodes] == [("gpu", "n1"), ("gpu", "n2"), ("cpu", "n3")]
    text = refused(next(HERE.glob("30*.yaml")), replace(CONTEXT, job_nodes=shared[:2], job_id="7"))
    assert 'backend "cpu" needs 1 node, only 0 of the job are left' in text
    assert "SFLOW_SLURM_WRAPPER_BACKEND" in text


def test_30_hosts_that_a_pool_names_are_left_to_it(tmp_path: Path) -> None:
    """Whichever pool is first in the file."""
    names = ("n1", "n2", "n3")
    job = replace(CONTEXT, job_nodes=tuple(map(JobNode, names)), job_id="7")
    file = changed(
        tmp_path,
        "30",
        ('include_nodes: ["n1,n2"], ', ""),
        ("gpus_per_node: 0}", "gpus_per_node: 0, include_nodes: [n1]}"),
    )
    big, small = build_plan(load_documents([file]), job).tasks
    assert big.env["SFLOW_TASK_ASSIGNED_NODE_NAMES"] == "n2,n3"
    assert small.env["SFLOW_TASK_ASSIGNED_NODE_NAMES"] == "n1"


def test_30_nodes_of_a_job_are_filtered(tmp_path: Path) -> None:
    text = (
        'version: "0.1"\nbackends:\n'
        "  s: {type: slurm, account: a, partition: p, time: 1, nodes: 2, gpus_per_node: 0, exclude_nodes: [n1]}\n"
        "workflow: {name: w, tasks: [{name: t, script: [x]}]}\n"
    )
    file = tmp_path / "w.yaml"
    file.write_text(text)
    job = replace(CONTEXT, job_nodes=tuple(JobNode(f"n{number}") for number in range(3)), job_id="7")
    plan = build_plan(load_documents([file]), job)
    assert [node.name for node in plan.nodes] == ["n0", "n2"]
    assert not plan.warnings
    fewer = build_plan(load_documents([file]), replace(job, exclude_nodes=("n0",)))
    assert "the job has 1 that it may use" in fewer.warnings[0].what
    assert "removed all nodes" in refused(file, replace(job, exclude_nodes=("n0,n2",)))
    assert "appear in both" in refused(file, replace(job, include_nodes=("n1",)))


def test_31_retries_are_planned() -> None:
    (task,) = planned("31").tasks
    assert (task.retries.count, task.retries.interval_s) == (1, 1.0)


def test_32_a_background_child_is_planned() -> None:
    first, second = planned("32").tasks
    assert first.script == "sleep 4 & echo started"
    assert waits(planned("32"), second.name) == ["a"]


def test_18_and_19_and_20_are_services() -> None:
    assert [task.is_service for task in planned("18").tasks] == [True, False]
    server, _ = planned("19").tasks
    assert (server.probes[0].delay_s, server.probes[0].interval_s, server.deadline_s) == (20.0, 30.0, 1200.0)
    web, *copies, done = planned("20").tasks
    assert [task.name for task in copies] == ["w_0", "w_1", "w_2"]
    assert web.is_service
    assert waits(planned("20"), done.name) == ["w"]


def test_33_a_cycle() -> None:
    with pytest.raises(FleetError) as raised:
        planned("33")
    (finding,) = raised.value.findings
    assert finding.code == "cycle"
    for edge in ("a depends on c", "c depends on b", "b depends on a"):
        assert edge in finding.what
    assert "waiting behind it: d" in finding.what
