"""Which reports a run has, what is in them, how they are drawn and told."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import AttemptId, RankId
from protocol.messages.monitor import Mark, RankWindow
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.model import Placement, Plan
from sflow_ctl.report.monitor.amounts import number_text, scale_of
from sflow_ctl.report.monitor.chart import Chart, TaskBar
from sflow_ctl.report.monitor.history import RunHistory
from sflow_ctl.report.monitor.metrics import MetricRow
from sflow_ctl.report.monitor.overview import Overview, sparks
from sflow_ctl.report.monitor.spans import ReportSpan, report_spans
from sflow_ctl.report.monitor.tally import SummaryTable
from tests.unit.planner.planning import plan_of

HEAD = "backends: {l: {type: local, nodes: 2, gpus_per_node: 4}}\nworkflow:\n  name: w\n"


def change(task: str, new: TaskState, attempt: int = 1, word: str = "x") -> Transition:
    return Transition(task=task, attempt=attempt, old=TaskState.QUEUED, new=new, reason=Reason(word))


class Told:
    """A run as its controller records it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.history = RunHistory(begin_ms=0)

    def ran(
        self,
        task: str,
        begin: int,
        end: int | None,
        nodes: tuple[int, ...] = (0,),
        gpus: tuple[int, ...] = (),
    ) -> None:
        place = Placement(nodes=nodes, gpus=gpus)
        self.history.note(change(task, TaskState.STARTING), place, begin)
        if end is not None:
            self.history.note(change(task, TaskState.COMPLETED), place, end)

    def found(self, task: str, start: int | None, end: int | None, attempt: int = 1, rank: int = 0) -> None:
        marks = [None if at is None else Mark(at_ms=at, offset=at, line="l") for at in (start, end)]
        identity = RankId(AttemptId(task, attempt), rank)
        self.history.found(RankWindow(rank=identity, log="", start=marks[0], end=marks[1]))

    def spans(self) -> dict[str, ReportSpan]:
        return {one.folder: one for one in report_spans(self.plan, self.history, "/run", 10_000)}


def test_a_workflow_monitor_reports_on_the_run_and_on_every_task(tmp_path: Path) -> None:
    told = Told(
        plan_of(tmp_path, HEAD + "  monitor: {}\n  tasks: [{name: a, script: [x]}, {name: b, script: [x]}]\n")
    )
    told.ran("a", 1000, 3000, nodes=(1,), gpus=(2, 3))
    spans = told.spans()
    assert list(spans) == ["lifecycle/workflow", "lifecycle/a"]  # b has not run
    assert (spans["lifecycle/workflow"].nodes, spans["lifecycle/workflow"].gpus) == ((0, 1), None)
    of_a = spans["lifecycle/a"]
    assert (of_a.nodes, of_a.gpus, of_a.begin_ms, of_a.end_ms) == ((1,), frozenset({"2", "3"}), 1000, 3000)


def test_replicas_have_a_report_together_and_each(tmp_path: Path) -> None:
    told = Told(plan_of(tmp_path, HEAD + "  tasks: [{name: a, script: [x], replicas: 2, monitor: {}}]\n"))
    told.ran("a_0", 1000, 3000, nodes=(0,))
    told.ran("a_1", 2000, None, nodes=(1,))
    spans = told.spans()
    assert list(spans) == ["lifecycle/a", "lifecycle/a_0", "lifecycle/a_1"]
    assert (spans["lifecycle/a"].nodes, spans["lifecycle/a"].begin_ms, spans["lifecycle/a"].end_ms) == (
        (0, 1),
        1000,
        10_000,
    )


def test_a_row_belongs_to_a_report_by_time_scope_and_gpu(tmp_path: Path) -> None:
    told = Told(
        plan_of(tmp_path, HEAD + "  tasks: [{name: a, script: [x], monitor: {scopes: {gpu: {}, cpu: {}}}}]\n")
    )
    told.ran("a", 1000, 3000, gpus=(1,))
    span = told.spans()["lifecycle/a"]

    def row(at: int, scope: str, resource: str = "system") -> MetricRow:
        return MetricRow(at, scope, resource, "m", 1.0, "", "")  # type: ignore[arg-type]

    def has(one: MetricRow) -> bool:
        return bool(span.rows_of(one.at_ms, [one]))

    assert has(row(1000, "cpu"))
    assert has(row(3000, "gpu", "1"))
    assert not any(map(has, (row(999, "cpu"), row(3001, "cpu"), row(2000, "disk"), row(2000, "gpu", "0"))))


def test_a_task_without_gpus_has_no_rows_of_gpus(tmp_path: Path) -> None:
    told = Told(plan_of(tmp_path, HEAD + "  tasks: [{name: a, script: [x], monitor: {}}]\n"))
    told.ran("a", 0, 10)
    assert not told.spans()["lifecycle/a"].rows_of(5, [MetricRow(5, "gpu", "0", "m", 1.0, "", "")])


WINDOWED = HEAD + "  tasks: [{name: a, script: [x], replicas: 2, monitor: {window: {start: B, end: E}}}]\n"


def test_a_window_cuts_the_report_and_replicas_make_the_widest(tmp_path: Path) -> None:
    told = Told(plan_of(tmp_path, WINDOWED))
    for name, start, end in (("a_0", 1100, 2000), ("a_1", 1200, 2500)):
        told.ran(name, 1000, 3000)
        told.found(name, start, end)
    spans = told.spans()
    assert list(spans) == ["windowed/a", "windowed/a_0", "windowed/a_1"]
    assert (spans["windowed/a"].begin_ms, spans["windowed/a"].end_ms) == (1100, 2500)
    window = spans["windowed/a_1"].window
    assert window is not None
    document = window.document
    assert (document["schema_version"], document["status"]) == ("sflow.monitor-window.v1", "matched")
    assert document["duration_seconds"] == 1.3
    assert document["sources"][0]["source_log"] == "/run/a_1/a_1.log"


@pytest.mark.parametrize(
    ("start", "end", "error"),
    [
        (None, None, "start marker not found"),
        (1100, None, "end marker not found after the selected start"),
    ],
)
def test_a_window_that_is_not_found_says_for_which_task(
    start: int | None, end: int | None, error: str, tmp_path: Path
) -> None:
    told = Told(plan_of(tmp_path, WINDOWED))
    for name in ("a_0", "a_1"):
        told.ran(name, 1000, 3000)
    told.found("a_0", 1100, 2000)
    told.found("a_1", start, end)
    span = told.spans()["windowed/a"]
    assert span.window is not None
    assert not span.is_found
    assert span.window.document["error"] == "unresolved owner runtime task(s): a_1"
    assert span.window.document["sources"][1]["error"] == error


def test_only_the_last_attempt_has_a_window_over_all_of_its_ranks(tmp_path: Path) -> None:
    told = Told(plan_of(tmp_path, WINDOWED.replace("replicas: 2, ", "")))
    told.ran("a", 1000, 3000)
    told.found("a", 1000, 1500, attempt=1)
    told.found("a", 2000, None, attempt=2, rank=0)
    told.found("a", 2100, 2600, attempt=2, rank=1)
    span = told.spans()["windowed/a"]
    assert (span.begin_ms, span.end_ms) == (2000, 2600)


def test_watched_tasks_are_reported_over_the_time_of_the_watching_one(tmp_path: Path) -> None:
    text = HEAD + (
        "  tasks:\n    - {name: server, script: [x], replicas: 2}\n"
        "    - {name: client, script: [x], monitor: {resources: {used_by_tasks: [server]}, window: {start: B, end: E}}}\n"
    )
    told = Told(plan_of(tmp_path, text))
    told.ran("server_0", 0, None, nodes=(0,), gpus=(0, 1))
    told.ran("server_1", 0, None, nodes=(1,), gpus=(0, 1))
    told.ran("client", 1000, 5000)
    told.found("client", 2000, 3000)
    spans = told.spans()
    assert list(spans) == [
        "windowed/server__monitored_by__client",
        "windowed/server_0__monitored_by__client",
        "windowed/server_1__monitored_by__client",
    ]
    both = spans["windowed/server__monitored_by__client"]
    assert (both.nodes, both.gpus, both.begin_ms, both.end_ms) == ((0, 1), frozenset({"0", "1"}), 2000, 3000)


def test_a_retry_extends_the_time_of_its_task(tmp_path: Path) -> None:
    told = Told(plan_of(tmp_path, HEAD + "  tasks: [{name: a, script: [x], retries: 1, monitor: {}}]\n"))
    place = Placement(nodes=(0,))
    told.history.note(change("a", TaskState.STARTING), place, 100)
    told.history.note(change("a", TaskState.WAITING, word="retry"), None, 200)
    told.history.note(change("a", TaskState.STARTING, attempt=2), place, 300)
    told.history.note(change("a", TaskState.FAILED, attempt=2), None, 400)
    span = told.spans()["lifecycle/a"]
    assert (span.begin_ms, span.end_ms) == (100, 400)
    assert [one.word for one in told.history.events] == ["submit", "retry", "submit", "failed"]


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_chart_is_valid_and_names_what_it_shows() -> None:
    chart = Chart("task <a> & \x1b[31mred", 0, 60_000)
    for second in range(60):
        for gpu in range(10):
            chart.add(MetricRow(second * 1000, "gpu", str(gpu), "gpu_utilization_pct", gpu * 10.0, "%", ""))
        chart.add(MetricRow(second * 1000, "network", "system", "rx_bytes_per_s", 3e9, "bytes/s", ""))
        chart.add(MetricRow(second * 1000, "gpu", "0", "gpu_pstate", None, "", "P0"))
    shown = texts(chart.svg([TaskBar(f"task_{number}", 0, 30_000) for number in range(20)]))
    assert shown[0] == "task <a> & red"
    assert {"GPU utilization, %", "Network, MiB/s", "GPU 7", "and 2 more", "and 8 more tasks", "60 s"} <= {
        *shown
    }
    assert "CPU utilization, %" not in shown


def test_a_chart_of_simulated_gpus_says_so() -> None:
    chart = Chart("t", 0, 1000)
    chart.add(MetricRow(500, "gpu", "0", "gpu_utilization_pct", 100.0, "%", "simulated"))
    shown = texts(chart.svg([]))
    assert "GPU utilization, % (simulated)" in shown
    assert "GPUs are simulated" in shown[1]


@given(
    span_ms=st.integers(0, 10**10),
    values=st.lists(st.tuples(st.integers(-(10**6), 10**10), st.floats(0, 1e15)), max_size=20),
)
def test_any_values_at_any_times_make_a_drawing_inside_its_frame(
    span_ms: int, values: list[tuple[int, float]]
) -> None:
    chart = Chart("t", 0, span_ms)
    for at_ms, value in values:
        for metric in ("load_1m", "cpu_utilization_pct"):
            chart.add(MetricRow(at_ms, "cpu", "system", metric, value, "", ""))
    root = ET.fromstring(chart.svg([TaskBar("t", -5, span_ms + 5)]))
    height = float(root.attrib["height"])
    for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 1000
            assert 0 <= y <= height


def test_amounts_are_read_as_people_write_them() -> None:
    assert scale_of("KiB", 24_684_092) == (1024.0**2, "GiB")
    assert scale_of("bytes/s", 1.0) == (1024.0**2, "MiB/s")
    assert scale_of("%", 97) == (1.0, "%")
    assert [number_text(value) for value in (0.0, 0.034, 12.34, 97, 123.4, 12345.6)] == [
        "0", "0.03", "12.3", "97", "123", "12,346",
    ]  # fmt: skip


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=500))
def test_sparks_fit_their_line_and_use_the_lowest_and_highest(values: list[float]) -> None:
    line = sparks(values)
    assert len(line) <= 60
    if len(values) <= 60 and max(values) > min(values):
        assert {"▁", "█"} <= {*line}


def test_the_overview_has_all_sections(tmp_path: Path) -> None:
    told = Told(
        plan_of(tmp_path, HEAD + "  monitor: {scopes: {cpu: {}}}\n  tasks: [{name: a, script: [x]}]\n")
    )
    told.ran("a", 1000, 3000)
    summary = SummaryTable()
    summary.add(MetricRow(1000, "cpu", "system", "cpu_utilization_pct", 50.0, "%", ""))
    text = Overview(
        plan=told.plan,
        history=told.history,
        end_ms=10_000,
        directory="/run/sflow_monitor",
        summary=summary,
        courses={},
        spans=list(told.spans().values()),
        errors=["localhost: gpu: no driver"],
        problems=["interrupted"],
    ).text()
    titles = [
        line
        for line, under in zip(text.splitlines(), text.splitlines()[1:], strict=False)
        if under.startswith(("--", "=="))
    ]
    assert [title for title in titles if not title.startswith("resource")] == [
        "Sflow Monitor", "Metric Summary", "Collection Errors", "Missing", "Monitors", "Task Reports", "Task Events",
    ]  # fmt: skip
    assert "- lifecycle/a: nodes=localhost gpus=none scopes=cpu" in text
