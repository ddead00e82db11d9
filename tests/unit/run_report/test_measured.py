"""What telemetry says of a run, in its report."""

import re

from msgspec.structs import replace

from protocol.telemetry.block import Kind
from sflow_ctl.core.states import TaskState
from sflow_ctl.report.page.document import run_page
from sflow_ctl.report.run_report.building import run_report
from sflow_ctl.report.run_report.measured import MAX_TASKS, TaskUse, add_telemetry, uses_of_tasks
from sflow_ctl.report.run_report.usage import UsageTally
from sflow_ctl.report.telemetry.series import Series, Telemetry
from tests.unit.run_report.runs import FILES, Story, plan, task

TIMES = [0, 1000, 2000]


def series(
    kind: Kind, name: str, labels: dict[str, str] | None = None, node: int = 0, **columns: list[int | None]
) -> Series:
    rows = len(next(iter(columns.values())))
    return Series(node, f"n{node}", kind, name, labels or {}, TIMES[:rows], columns=dict(columns))


def measured(*found: Series) -> UsageTally:
    tally = UsageTally(0, 2000)
    add_telemetry(tally, Telemetry(found))
    return tally


def test_nodes_and_gpus_have_courses_and_energy_is_that_of_the_counters() -> None:
    report = measured(
        series(
            "node",
            "n0",
            {"cpus": "4", "memory_kib": "1000"},
            cpu_busy_ms=[0, 2000, 6000],
            memory_used_kib=[100, 200, None],
        ),
        series("node", "n1", cpu_busy_ms=[0, 1, 2], memory_used_kib=[1, 2, 3], node=1),
        series(
            "gpu",
            "GPU-a",
            {"index": "0"},
            percent=[10, 20, 30],
            power_mw=[100_000, None, 300_000],
            energy_mj=[5000, 6000, 9000],
        ),
    ).report()
    assert report is not None
    found = {(one.metric, one.node, one.gpu): (one.average, one.highest) for one in report.series}
    assert found == {
        ("cpu", "n0", None): (75.0, 100.0),
        ("memory", "n0", None): (15.0, 20.0),
        ("gpu", "n0", "0"): (20.0, 30.0),
        ("power", "n0", "0"): (200.0, 300.0),
    }
    assert report.energy_j == 4.0


def test_what_tasks_have_used_is_added_over_attempts_and_nodes() -> None:
    uses = uses_of_tasks(
        Telemetry(
            (
                series("task", "a#1", cpu_ms=[0, 100], rss_kib=[10, 5], read_kib=[0, 1]),
                series(
                    "task", "a#2", cpu_ms=[0, 900], rss_kib=[7, 8], energy_mj=[0, 2500], gpu_busy_ms=[0, 1500]
                ),
                series("task", "a#2", node=1, cpu_ms=[0, 500], written_kib=[0, 3]),
                series("task", "odd", cpu_ms=[0, 500]),
            )
        )
    )
    assert uses == {
        "a": TaskUse(
            cpu_s=1.5,
            max_rss_bytes=10240,
            read_bytes=1024,
            written_bytes=3072,
            gpu_busy_s=1.5,
            gpu_energy_j=2.5,
        )
    }


def test_only_the_busiest_tasks_have_courses() -> None:
    tasks = [
        series("task", f"t_{n}#1", cpu_ms=[0, 100 * n], rss_kib=[1024, 2048]) for n in range(MAX_TASKS + 3)
    ]
    report = measured(*tasks, series("task", "short#1", cpu_ms=[10**6])).report()
    assert report is not None
    names = {one.task for one in report.series if one.metric == "task_cpu"}
    assert names == {f"t_{n}#1" for n in range(3, MAX_TASKS + 3)}
    assert {one.highest for one in report.series if one.metric == "task_memory"} == {2.0}


def test_the_table_of_tasks_has_columns_for_what_was_measured_only() -> None:
    story = Story(plan(task("a"), task("b")))
    for name in "ab":
        story.start(0.0, name)
        story.end(1.0, name, TaskState.COMPLETED)
    record = story.record(story.ended(1.0))
    assert "CPU time" not in run_page(run_report(record), FILES)
    page = run_page(
        run_report(replace(record, uses={"a": TaskUse(cpu_s=1.5, max_rss_bytes=2_000_000)})), FILES
    )
    head = re.findall(r"<th[^>]*>([^<]*)</th>", page[page.index('id="tasks"') :])
    assert head[7:12] == ["Ran", "CPU time", "Memory", "Node", "GPUs"]
    assert "2 MB" in page
