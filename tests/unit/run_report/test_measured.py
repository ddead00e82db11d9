"""What telemetry says of a run, in its report."""

import re

from msgspec.structs import replace

from protocol.telemetry.block import Kind, SeriesPart, frame, make_block, make_part
from sflow_ctl.core.states import TaskState
from sflow_ctl.report.page.document import run_page
from sflow_ctl.report.run_report.building import run_report
from sflow_ctl.report.run_report.measured import MAX_TASKS, Measurements
from sflow_ctl.report.run_report.task_use import TaskUse
from sflow_ctl.report.run_report.usage import UsageTally
from tests.unit.run_report.runs import FILES, Story, plan, task

TIMES = [0, 1000, 2000]


def series(
    kind: Kind, name: str, labels: dict[str, str] | None = None, node: int = 0, **columns: list[int | None]
) -> tuple[str, SeriesPart]:
    return f"n{node}", make_part(kind, name, 0, columns, labels)


def measured(*parts: tuple[str, SeriesPart], tail: bytes = b"") -> tuple[UsageTally, dict[str, TaskUse]]:
    tally = UsageTally(0, 2000)
    found = Measurements(tally)
    nodes = dict.fromkeys(node for node, _ in parts)
    for take in (found.take, found.take_busiest):
        for node in nodes:
            content = frame(make_block(TIMES, [part for one, part in parts if one == node]))
            take(node, content + b"damaged", tail)
    return tally, found.uses


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
    )[0].report()
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
    _, uses = measured(
        series("task", "a#1", cpu_ms=[0, 100], rss_kib=[10, 5], read_kib=[0, 1]),
        series("task", "a#2", cpu_ms=[0, 900], rss_kib=[7, 8], energy_mj=[0, 2500], gpu_busy_ms=[0, 1500]),
        series("task", "a#2", node=1, cpu_ms=[0, 500], written_kib=[0, 3]),
        series("task", "odd", cpu_ms=[0, 500]),
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
    report = measured(*tasks)[0].report()
    assert report is not None
    names = {one.task for one in report.series if one.metric == "task_cpu"}
    assert names == {f"t_{n}#1" for n in range(3, MAX_TASKS + 3)}
    assert {one.highest for one in report.series if one.metric == "task_memory"} == {2.0}


def test_rows_that_the_file_of_the_newest_ones_has_again_count_once() -> None:
    part = make_part("task", "a#1", 0, {"cpu_ms": [0, 100, 300]})
    tail = frame(make_block([1000, 2000, 2005], [make_part("task", "a#1", 0, {"cpu_ms": [100, 300, 310]})]))
    tally, uses = measured(("n0", part), tail=tail)
    report = tally.report()
    assert report is not None
    assert uses["a"].cpu_s == 0.31
    (course,) = report.series
    assert (course.average, course.highest) == (0.767, 2.0)


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


def test_a_task_that_uses_little_of_a_cpu_is_not_drawn_as_idle() -> None:
    tally = UsageTally(0, 240)
    for at, value in ((1, 0.0375), (2, 0.004), (3, 1.234), (4, 56.78)):
        tally.point("task_cpu", "CPUs", at, value, "n0", task="a#1")
    report = tally.report()
    assert report is not None
    assert report.series[0].values == (0.037, 0.004, 1.23, 56.8)
    assert report.series[0].highest == 56.78
