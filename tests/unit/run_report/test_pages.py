"""The page of a report: what is in it, and that no text of a run can be more than text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import msgspec
import pytest

from sflow_ctl.core.states import FirstCause, Outcome, Reason
from sflow_ctl.report.page.charts import all_charts, shown_value
from sflow_ctl.report.page.comparison import comparison_page
from sflow_ctl.report.page.details import MAX_TASKS
from sflow_ctl.report.page.document import run_page
from sflow_ctl.report.page.gantt import MAX_BESIDE, MAX_ROWS, Gantt
from sflow_ctl.report.page.markup import Markup, escaped, tag
from sflow_ctl.report.page.overview import energy_text
from sflow_ctl.report.page.scale import SCALES, Scale, clock_text, profile
from sflow_ctl.report.run_report.building import run_report
from sflow_ctl.report.run_report.comparing import RunComparison
from sflow_ctl.report.run_report.differences import comparison
from sflow_ctl.report.run_report.model import RunReport, UsageReport, UsageSeries
from tests.unit.run_report.runs import FILES, S, Story, chain, many, plan, task

EVIL = "<script>alert('x')</script>\"&\x1b]0;t\x07\u202e"
CAUSE = FirstCause(
    text="task last failed", task="last", attempt=2, node=0, reason=Reason("exit", EVIL, line=EVIL, hint=EVIL)
)


class Elements(HTMLParser):
    """Counts elements, and gathers the text of the page and of each table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: dict[str, int] = {}
        self.text: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names[tag] = self.names.get(tag, 0) + 1
        given = dict(attrs)
        self.ids += [one for one in [given.get("id")] if one]
        self.links += [one for name in ("href", "src") if (one := given.get(name))]
        assert not [name for name in given if name.startswith("on") or name == "style"]
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.inside[-1:] not in (["script"], ["style"]):
            self.text.append(data)


def usage(lines: int = 1, *, simulated: bool = False) -> UsageReport:
    made = [
        UsageSeries(metric=metric, unit="%" if metric != "power" else "W", node="n0", gpu=str(number),
                    average=50.0, highest=100.0, values=(0.0, None, 100.0))
        for metric in ("gpu", "power")
        for number in range(lines)
    ]  # fmt: skip
    cpu = UsageSeries(
        metric="cpu", unit="%", node="n0", average=40.0, highest=100.0, values=(0.0, 20.0, 100.0)
    )
    return UsageReport(at_s=(0.5, 1.5, 2.5), series=(*made, cpu), energy_j=5e6, is_simulated=simulated)


def failed() -> RunReport:
    story = chain()
    columns, rows = (
        ("task", "N", "state", "attempts", "runtime_s", "v"),
        [("work", "1", "completed", 2, 1.75, 3.5)],
    )
    return run_report(
        story.record(
            story.ended(10.0, Outcome.FAILED, CAUSE), usage=usage(), results=(columns, rows), log_tail=[EVIL, "b"],
            outputs={"work": {"v": 3.5}},
        )
    )  # fmt: skip


def page_text(report: RunReport) -> str:
    return " ".join(" ".join(Elements(run_page(report, FILES)).text).split())


def test_the_page_says_cause_states_times_and_values_without_a_script() -> None:
    text = page_text(failed())
    for said in (
        "wf ✕ failed", "Duration 10.0 s", "1 of 3", "First cause task last failed",
        "sflow-ctl logs --run runs/r last", "srv 1 0.50 s 0.50 s 3.00 s 9.00 s", "Critical path",
        "work ✓ completed 2 0 0.00 s 0.25 s 1.75 s n0", "1.39 kWh", "work 1 completed 2 1.75 3.5",
    ):  # fmt: skip
        assert said in text, said


def test_texts_of_a_run_stay_texts() -> None:
    tasks = [task(EVIL), task("b", sweep=((EVIL, EVIL),))]
    story = Story(plan(*tasks, variables={EVIL: EVIL}))
    for one in tasks:
        story.start(0.0, one.name)
        story.end(1.0, one.name, S.FAILED, reason=Reason(EVIL, EVIL, hint=EVIL))
    rows = [(one.name, EVIL, "failed", 1, 1.0, value) for one, value in zip(tasks, (1, EVIL), strict=True)]
    record = story.record(
        story.ended(1.0, Outcome.FAILED, msgspec.structs.replace(CAUSE, task=EVIL)),
        results=(("task", EVIL, "state", "attempts", "runtime_s", EVIL + "v"), rows), usage=usage(), log_tail=[EVIL],
    )  # fmt: skip
    report = msgspec.structs.replace(run_report(record), problems=(EVIL,))
    for page in (run_page(report, FILES), comparison_page(_compared(report, report), FILES)):
        found = Elements(page)
        assert found.names["script"] == 3  # the data, the library and the page's own
        assert "alert" in " ".join(found.text)
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "<script>alert" not in page


def _compared(left: RunReport, right: RunReport) -> RunComparison:
    return comparison(left, right, (plan(), plan()), ([EVIL], []), lambda text: text)


def test_the_policy_allows_the_page_s_own_style_and_scripts_only() -> None:
    page = run_page(failed(), FILES)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(one.strip().split(" ", 1) for one in policy[1].replace("&#x27;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy[1]
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert rules["script-src"].split() == [_digest(one) for one in inline]
    assert rules["style-src"] == _digest(re.findall(r"<style>(.*?)</style>", page, re.DOTALL)[0])
    assert [one for one in Elements(page).links if not one.startswith("#")] == []


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_links_lead_to_elements_and_ids_are_unique() -> None:
    for page in (run_page(failed(), FILES), comparison_page(_compared(failed(), failed()), FILES)):
        found = Elements(page)
        assert len(found.ids) == len(set(found.ids))
        assert {one[1:] for one in found.links} <= {*found.ids}


def test_data_of_charts_cannot_end_their_element() -> None:
    report = failed()
    page = run_page(report, FILES)
    data = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page)
    assert data is not None
    charts = json.loads(data[1])
    assert [one["title"] for one in charts] == ["CPU use", "GPU use", "GPU power"]
    assert charts[1]["lines"] == [{"name": "n0 GPU 0", "colour": 0, "y": [0.0, None, 100.0]}]
    assert all(f'id="{one["id"]}"' in page for one in charts)


def test_of_many_lines_the_average_stands_out() -> None:
    report = msgspec.structs.replace(failed(), usage=usage(9))
    (_, gpu, _) = all_charts({"": report})
    assert [line.colour for line in gpu.lines] == [-1] * 9 + [0]
    assert gpu.lines[-1].y == (0.0, None, 100.0)


def test_without_readings_results_and_cause_their_sections_say_so_or_are_missing() -> None:
    story = Story(plan(task("a")))
    live = run_report(story.record(now_s=1.0))
    text = page_text(live)
    assert "Nothing was measured" in text
    assert "First cause" not in text
    assert "No task has been started" in text
    found = Elements(run_page(live, FILES))
    assert found.names["script"] == 1  # nothing to draw: without the library
    assert "results" not in found.ids


def test_each_task_has_a_row_with_its_phases_and_a_lane_for_each_gpu() -> None:
    gantt = Gantt(failed(), "")
    rows = gantt.by_task(frozenset({"srv"}))
    assert 'href="#t0"' in rows
    kinds = re.findall(r'<rect [^>]*class="(\w+)"', rows)
    assert [one for one in kinds if one != "stripe"] == [
        *("startup", "loading", "serving", "cancelled"),  # the service
        *("startup", "failed", "startup", "done"),
        "failed",
    ]
    assert "✕" in rows
    assert "work #1: failed" in rows
    lanes = gantt.by_node()
    assert re.findall(r">(n0[^<]*)</text>", lanes) == ["n0 GPU 0", "n0 GPU 1", "n0"]


def test_replicas_beyond_the_rows_share_one_and_attempts_beyond_the_lanes_an_area() -> None:
    story = many(MAX_ROWS + 1)
    report = run_report(story.record(story.ended(10.0)))
    rows = Gantt(report, "").by_task(frozenset())
    assert f"t ×{MAX_ROWS + 1}" in rows
    assert "up to" in rows
    assert 'class="many failed"' in rows
    lanes = Gantt(report, "").by_node()
    assert lanes.count('class="many"') == 1
    few = many(MAX_BESIDE)
    packed = Gantt(run_report(few.record(few.ended(10.0))), "").by_node()
    assert 'class="many"' not in packed


@pytest.mark.parametrize(("count", "most_bytes"), [(1000, 1_700_000), (10_000, 2_500_000)])
def test_a_page_about_many_tasks_stays_small(count: int, most_bytes: int) -> None:
    story = many(count)
    report = run_report(story.record(story.ended(count / 100 + 1)))
    page = run_page(report, FILES)
    assert len(page) < most_bytes
    assert page.count("<tr id=") == min(count, MAX_TASKS)
    assert (
        page.index("✕ failed</span>", page.index('id="tasks"'))
        < page.index("✓ completed</span>", page.index('id="tasks"'))
        or count <= MAX_TASKS
    )


def test_five_hundred_different_tasks_stay_small() -> None:
    names = [f"t{number}" for number in range(1000)]
    story = Story(plan(*map(task, names)))
    for place, name in enumerate(names):
        story.start(place / 100, name)
        story.end(place / 100 + 1, name)
    page = run_page(run_report(story.record(story.ended(12.0))), FILES)
    assert "more rows are left out" in page
    assert len(page) < 1_700_000


def test_marks_are_at_round_times() -> None:
    scale = Scale(95.0)
    assert [text for _, text in scale.marks(1)] == ["0 s", "15 s", "30 s", "45 s", "1:00", "1:15", "1:30"]
    assert [len([*scale.marks(zoom)]) <= 8 * zoom + 1 for zoom in SCALES] == [True] * len(SCALES)
    assert [text for _, text in Scale(20 * 86400.0).marks(1)][:2] == ["0 s", "72:00:00"]
    assert (clock_text(0.25, 0.05), clock_text(3725, 60)) == ("0.25 s", "1:02:05")
    assert (scale.at(-5), scale.at(200), scale.at(9.5)) == (0.0, 100.0, 10.0)


def test_a_profile_counts_what_overlaps() -> None:
    assert profile([(0, 4), (1, 3), (2.5, 2.75)], 4, 4) == [1.0, 2.0, 2.25, 1.0]
    assert profile([(0, 99)], 4, 2) == [1.0, 1.0]


def test_markup_escapes_all_but_markup() -> None:
    assert escaped("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#x27;"
    assert escaped(Markup("<b>")) == "<b>"
    assert (
        tag("p", "<", None, Markup("<br>"), title='"', hidden=True, lang=None)
        == '<p title="&quot;" hidden>&lt;<br></p>'
    )
    assert tag("br") == "<br>"
    assert escaped("\x00\x7f\ud800\u2028") == "␀␡\ufffd\ufffd"


def test_numbers_and_values_are_short() -> None:
    assert [energy_text(one) for one in (250, 1200, 3.6e6)] == ["250 J", "1.2 kJ", "1 kWh"]
    assert [shown_value(one) for one in (None, 1.23456789, [1, "x"], True)] == [
        "",
        "1.23457",
        '[1,"x"]',
        "True",
    ]
    assert len(shown_value(["x" * 500])) == 120
