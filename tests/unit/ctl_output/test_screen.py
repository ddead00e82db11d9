"""Rows and lines of the full-screen view, from a plan and changes of state."""

from pathlib import Path

import pytest

from protocol.telemetry.block import Kind
from sflow_ctl.core.states import Reason, TaskState
from sflow_ctl.planner.show.task_text import probe_text
from sflow_ctl.report.looking.explanation import explain
from sflow_ctl.report.screen.graph_lines import graph_lines
from sflow_ctl.report.screen.node_rows import gpu_map_text, node_rows, tasks_text
from sflow_ctl.report.screen.task_details import MAX_EVENTS, MAX_SCRIPT_LINES, task_details
from sflow_ctl.report.screen.task_rows import MAX_ROWS, Filter, Usage, counts_text, task_list
from sflow_ctl.report.screen.usage import node_line, node_usage, task_usage, usage_table
from sflow_ctl.report.telemetry.series import Series, Telemetry
from tests.unit.ctl_output.test_explanation import SECOND, TEXT, Known
from tests.unit.planner.planning import plan_of

S = TaskState


@pytest.fixture
def run(tmp_path: Path) -> Known:
    return Known(plan_of(tmp_path, TEXT))


def names(run: Known, words: str) -> list[str]:
    return [row.name for row in task_list(run.state, run.now, words).rows]


def test_a_row_says_what_a_task_does_and_why(run: Known) -> None:
    run.enter("srv", S.STARTING, node=0, gpus=(0, 1, 2))
    run.enter("srv", S.RUNNING, node=0, pid=7)
    run.state.note_waiting("srv", 1, "port 80 is not listening")
    run.enter("load_0", S.STARTING, node=1)
    run.enter("load_0", S.FAILED, node=1, exit_code=3, runtime_s=2.5, reason=Reason("exit", "exit status 3"))
    listed = task_list(run.state, run.now + 70 * SECOND, usage={"srv": Usage(151.0, 3 << 30, 88.0)})
    rows = {row.name: row for row in listed.rows}
    srv, failed, waits = rows["srv"], rows["load_0"], rows["late"]
    assert (srv.state, srv.detail, srv.gpus, srv.duration) == (
        "running",
        "port 80 is not listening",
        "0-2",
        "1:12",
    )
    assert (srv.cpu, srv.memory, srv.gpu_use) == ("151%", "3.22 GB", "88%")
    assert (failed.state, failed.detail, failed.exit, failed.colour) == (
        "failed",
        "exit status 3",
        "3",
        "red",
    )
    assert (waits.state, waits.detail, waits.attempts, waits.duration) == ("waiting", "", "-", "-")
    assert listed.left_out == 0


def test_a_time_that_runs_has_no_decimals_that_change_at_each_look(run: Known) -> None:
    run.enter("srv", S.RUNNING, node=0)
    at = run.now
    texts = {task_list(run.state, at + part * SECOND // 10).rows[0].duration for part in range(4)}
    assert texts == {"0 s"}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", ["srv", "load_0", "load_1", "load_2", "cli", "big", "late", "end"]),
        ("LOAD", ["load_0", "load_1", "load_2"]),
        ("load !_1", ["load_0", "load_2"]),
        ("state:run", ["load_0"]),
        ("state:run,compl", ["load_0", "load_1"]),
        ("!state:waiting", ["load_0", "load_1"]),
        ("node:nothing", []),
        ("what:ever", []),
        ("! state: node:", ["srv", "load_0", "load_1", "load_2", "cli", "big", "late", "end"]),
    ],
)
def test_the_words_of_a_filter(run: Known, words: str, found: list[str]) -> None:
    run.enter("load_0", S.RUNNING, node=0)
    run.enter("load_1", S.COMPLETED, node=1)
    assert names(run, words) == found


def test_tasks_of_one_node(run: Known) -> None:
    run.enter("load_0", S.RUNNING, node=0)
    run.enter("load_1", S.RUNNING, node=1)
    assert names(run, f"node:{run.state.plan.nodes[1].name}") == ["load_1"]


def test_of_too_many_tasks_the_notable_ones_are_listed_in_the_order_of_the_plan(tmp_path: Path) -> None:
    text = "workflow:\n  name: w\n  tasks: [{name: t, script: [x], replicas: {count: 600}}]\n"
    run = Known(plan_of(tmp_path, text))
    for number in (599, 3):
        run.enter(f"t_{number}", S.FAILED, reason=Reason("exit", "exit status 1"))
    listed = task_list(run.state, run.now)
    shown = [row.name for row in listed.rows]
    assert len(shown) == MAX_ROWS
    assert listed.left_out == 600 - MAX_ROWS
    assert shown.index("t_3") < shown.index("t_599")
    assert counts_text(run.state) == "2 failed, 0/600 completed"


def test_an_empty_filter_fits_everything(run: Known) -> None:
    assert all(Filter().fits(record, run.state.plan) for record in run.state.tasks.values())


def test_the_map_of_gpus(run: Known) -> None:
    run.enter("srv", S.RUNNING, node=0, gpus=(0, 1, 2))
    rows = node_rows(run.state, frozenset({0}), {1: "silent for 30 s"}, {})
    assert gpu_map_text(rows[0]) == "0-2 srv, 3 free"
    assert gpu_map_text(rows[1]) == "0-3 free"
    assert (rows[0].state, rows[1].state, rows[1].detail) == ("joined", "lost", "silent for 30 s")
    assert (tasks_text(rows[0]), tasks_text(rows[1])) == ("srv", "-")


def test_an_agent_that_stands_still_is_named(run: Known) -> None:
    name = run.state.plan.nodes[0].name
    row = node_rows(run.state, frozenset(), {}, {name: "writing /log"})[0]
    assert (row.state, row.detail) == ("waiting", "writing /log")


def test_a_node_without_gpus_and_with_many_tasks(tmp_path: Path) -> None:
    text = "workflow:\n  name: w\n  tasks: [{name: t, script: [x], replicas: {count: 9}}]\n"
    run = Known(plan_of(tmp_path, text))
    for number in range(9):
        run.enter(f"t_{number}", S.RUNNING, node=0)
    row = node_rows(run.state, frozenset({0}), {}, {})[0]
    assert tasks_text(row) == "t_0, t_1, t_2, t_3, t_4, t_5 and 3 more"
    assert gpu_map_text(row) in ("-", "0 free")


def test_a_task_stands_below_what_it_waits_for(run: Known) -> None:
    run.enter("load_0", S.COMPLETED)
    lines = {line.base: line for line in graph_lines(run.state)}
    assert [line.base for line in graph_lines(run.state)][:2] == ["srv", "load"]
    assert lines["load"].text == "load × 3  1 completed, 2 waiting"
    assert (lines["cli"].depth, lines["late"].depth) == (1, 2)
    assert lines["cli"].waits == "srv ready"
    assert lines["late"].waits == ""


def test_the_colour_of_replicas_is_that_of_the_worst(run: Known) -> None:
    for number in range(3):
        run.enter(f"load_{number}", S.COMPLETED)
    assert {line.base: line.colour for line in graph_lines(run.state)}["load"] == "green"
    run.enter("load_1", S.FAILED, reason=Reason("exit"))
    assert {line.base: line.colour for line in graph_lines(run.state)}["load"] == "red"


def test_the_details_of_a_task(tmp_path: Path) -> None:
    script = ", ".join(f"echo {number}" for number in range(MAX_SCRIPT_LINES + 3))
    text = f"""variables: {{GREETING: hello}}
workflow:
  name: w
  tasks:
    - {{name: srv, script: [{script}], ports: {{http: 2}}, probes: {{readiness: {{tcp_port: {{port: 80}}}}}}}}
"""
    run = Known(plan_of(tmp_path, text))
    for _ in range(MAX_EVENTS + 5):
        run.enter("srv", S.RUNNING, node=0)
    task = run.state.plan.tasks[0]
    sections = task_details(
        task, explain(run.facts(), "srv"), run.history["srv"], probe_text=probe_text, clock_text=str
    )
    found = {section.title: section.lines for section in sections}
    assert sections[0].title.startswith("srv is running")
    assert found["Command"][-1] == "... and 3 more lines"
    assert found["Ports"] == ("http: 2 on each of its nodes",)
    assert found["Probes"][0].startswith("readiness: ")
    assert len(found["Last changes"]) == MAX_EVENTS
    assert "GREETING=hello" in found["Environment"]


def measured(kind: Kind, name: str, node: int = 0, **columns: list[int | None]) -> Series:
    rows = max(map(len, columns.values()))
    labels = {"cpus": "4"} if kind == "node" else {}
    times = [10_000 + 1000 * row for row in range(rows)]
    return Series(node, f"n{node}", kind, name, labels, times, columns=dict(columns))


def test_the_use_of_a_task_is_that_of_all_its_nodes(run: Known) -> None:
    run.enter("srv", S.STARTING, node=0, gpus=(0, 1))
    run.enter("srv", S.RUNNING, node=0)
    run.enter("load_0", S.RUNNING, node=1)
    newest = Telemetry(
        (
            measured("task", "srv#1", cpu_ms=[100, 600], rss_kib=[None, 1024], gpu_busy_ms=[0, 1000]),
            measured("task", "srv#1", 1, cpu_ms=[0, 1500], rss_kib=[5, 2048], gpu_busy_ms=[0, 3000]),
            measured("task", "srv#2", cpu_ms=[0, 9000]),
            measured("task", "load_0#1", cpu_ms=[7], gpu_memory_mib=[5]),
            measured("task", "cli#1", cpu_ms=[0, 5]),
            measured("node", "n0", cpu_busy_ms=[0, 2000], memory_used_kib=[1, 2]),
        )
    )
    usage = task_usage(run.state, newest, 12_000)
    assert usage == {"srv": Usage(200.0, 3072 * 1024, 100.0, None), "load_0": Usage()}
    assert task_usage(run.state, newest, 60_000) == {}
    assert [node_line(node) for node in node_usage(newest)] == ["n0: CPU 50%, memory 2.05 kB"]
    table = usage_table(run.state, usage, {"srv": "2 nodes"})
    assert table.rows == (
        ("srv", "running", "2 nodes", "200%", "3.15 MB", "100%", "-"),
        ("load_0", "running", "-", "-", "-", "-", "-"),
    )
    assert usage_table(Known(run.state.plan).state, {}, {}).headings == ()
