"""The page of a report in a real browser: charts with data, light and dark, keyboard, paper, no script, no network."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from sflow_ctl.core.states import FirstCause, Outcome, Reason
from sflow_ctl.report.page.details import FIRST_TASKS
from sflow_ctl.report.run_report.building import run_report
from sflow_ctl.report.run_report.model import RunReport, UsageReport, UsageSeries
from sflow_ctl.runtime.reporting.writing import page_of
from tests.chromium import Page, chromium_page, find_chromium
from tests.unit.run_report.runs import S, Story, many, plan, task

EVIL = "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'>"
PIXELS = """(id) => {
  const canvas = document.getElementById(id).querySelector("canvas");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Set();
  for (let at = 0; at < data.length; at += 4)
    if (data[at + 3] > 200) colours.add(data.slice(at, at + 3).join());
  return colours.size;
}"""


class Opened(NamedTuple):
    """A browser with the page."""

    page: Page
    path: Path


def whole_report() -> RunReport:
    """A report with everything that a page can show."""
    sweep = [task(f"b_{n}", base="b", sweep=(("USERS", str(n)),)) for n in (1, 2, 4)]
    story = Story(plan(task("srv", serves=True, gpus=(0, 1)), *sweep, task("last"), task(EVIL)))
    story.start(0.0, "srv", runs=0.5, gpus=(0, 1))
    story.change(3.0, "srv", S.RUNNING, S.READY)
    for place, one in enumerate(sweep):
        story.start(3.0 + place, one.name)
        story.end(4.0 + place, one.name)
    story.start(7.0, EVIL)
    story.end(7.5, EVIL)
    story.start(8.0, "last")
    story.end(9.0, "last", S.FAILED, reason=Reason("exit", EVIL))
    cause = FirstCause(text=f"task last failed: {EVIL}", task="last", reason=Reason("exit", EVIL))
    times = tuple(float(second) for second in range(10))
    wave = tuple(50 + 40 * math.sin(one) for one in times)
    series = [
        UsageSeries(metric=metric, unit=unit, node="n0", gpu=gpu, average=50.0, highest=90.0, values=wave)
        for metric, unit, gpu in (
            ("cpu", "%", None),
            ("gpu", "%", "0"),
            ("gpu", "%", "1"),
            ("power", "W", "0"),
        )
    ]
    rows = [
        (one.name, dict(one.sweep)["USERS"], "completed", 1, 1.0, 2.5 * place)
        for place, one in enumerate(sweep)
    ]
    return run_report(
        story.record(
            story.ended(10.0, Outcome.FAILED, cause),
            usage=UsageReport(at_s=times, series=tuple(series), energy_j=1000.0),
            results=(("task", "USERS", "state", "attempts", "runtime_s", "rate"), rows),
            log_tail=[EVIL],
        )
    )


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    program = find_chromium()
    if program is None:
        pytest.skip("chromium is not installed (Debian's package chromium)")
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(page_of(whole_report()))
    with chromium_page(program) as page:
        page.resize(1280, 900)
        page.open(path)
        yield Opened(page, path)


def test_the_page_has_no_errors_and_asks_for_nothing(opened: Opened) -> None:
    page, path = opened
    page.open(path)
    assert page.problems() == []
    assert page.requests() == [path.as_uri()]
    assert page.run("window.harmed") is None
    assert page.run("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_every_chart_has_data_in_light_and_dark(opened: Opened, is_dark: bool) -> None:
    page, path = opened
    page.use_dark(is_dark)
    page.open(path)
    charts = json.loads(page.run("document.getElementById('charts').textContent"))
    assert [one["title"] for one in charts] == ["CPU use", "GPU use", "GPU power", "rate"]
    for chart in charts:
        assert page.run(f"({PIXELS})({json.dumps(chart['id'])})") > 5, chart["title"]
        legend = page.run(f"document.querySelector('#{chart['id']} .u-legend').textContent")
        assert all(line["name"] in legend for line in chart["lines"])
    dark, light = "rgb(17, 21, 27)", "rgb(246, 247, 249)"
    assert page.run("getComputedStyle(document.body).backgroundColor") == (dark if is_dark else light)
    assert page.problems() == []
    page.use_dark(False)


def test_a_change_of_the_colours_draws_the_charts_anew(opened: Opened) -> None:
    page, path = opened
    page.open(path)
    page.run("document.querySelector('.uplot').dataset.old = 1")
    page.use_dark(True)
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    assert page.run("document.querySelectorAll('.uplot').length") == 4
    assert page.run("document.querySelector('.uplot').dataset.old") is None
    page.use_dark(False)


def test_the_keyboard_reaches_views_widths_and_values(opened: Opened) -> None:
    page, path = opened
    page.open(path)
    shown = "[...document.querySelectorAll('.view')].map((one) => getComputedStyle(one).display).join()"
    assert page.run(shown) == "block,none"
    page.run("document.getElementById('v-task').focus()")
    _press(page, "ArrowRight", 39)
    assert page.run(shown) == "none,block"
    width = "document.querySelector('.view.node .bars').getBoundingClientRect().width"
    narrow = page.run(width)
    page.run("document.getElementById('z-1').focus()")
    _press(page, "ArrowRight", 39)
    assert page.run(width) > 3 * narrow
    page.run("document.getElementById('p-0').focus()")
    for _ in range(2):
        _press(page, "ArrowRight", 39)
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    values = "[...document.querySelectorAll('#p-0 .u-value')].map((one) => one.textContent).join()"
    assert page.run(values) == "2,2.5"


def _press(page: Page, key: str, code: int) -> None:
    for kind in ("rawKeyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def test_the_table_of_tasks_is_filtered_and_sorted(opened: Opened) -> None:
    page, path = opened
    page.open(path)
    names = "[...document.querySelectorAll('#tasks tbody tr:not([hidden])')].map((row) => row.cells[0].textContent)"
    page.run(
        "const field = document.querySelector('.filter'); field.value = 'b_ comp'; field.dispatchEvent(new Event('input'))"
    )
    assert page.run(names) == ["b_1", "b_2", "b_4"]
    assert page.run("document.querySelector('.hits').textContent") == "3 shown"
    page.run("document.querySelectorAll('#tasks th button')[0].click()")
    page.run("document.querySelectorAll('#tasks th button')[0].click()")
    assert page.run(names) == ["b_4", "b_2", "b_1"]
    assert page.run("document.querySelector('#tasks th').ariaSort") == "descending"


def test_rows_of_many_tasks_are_laid_out_when_they_are_looked_at(opened: Opened, tmp_path: Path) -> None:
    """By a link, by the filter, by an order, and on paper; at once they would take most of the time to open the page."""
    page, path = opened[0], tmp_path / "many.html"
    story = many(1000)
    path.write_bytes(page_of(run_report(story.record(story.ended(20.0)))))
    rows, hidden = "document.querySelectorAll('#tasks tbody tr').length", "document.querySelector('.rest')"
    page.open(path)
    assert page.run(rows) == FIRST_TASKS
    assert page.run(f"{hidden}.querySelectorAll('tbody tr').length") == 1000 - FIRST_TASKS
    assert page.run(f"{hidden}.open") is False
    last = page.run(f"{hidden}.querySelector('tbody').lastElementChild.id")
    page.run(f"location.hash = {last!r}")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    assert page.run(f"{hidden}.open") is True
    page.run(
        "const field = document.querySelector('.filter'); field.value = 't_9'; field.dispatchEvent(new Event('input'))"
    )
    assert page.run(rows) == 1000
    assert page.run(hidden) is None
    page.open(path)
    page.run("document.querySelectorAll('#tasks th button')[0].click()")
    assert page.run(rows) == 1000
    page.open(path)
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    assert page.run(rows) == 1000


def test_nothing_is_wider_than_a_narrow_window(opened: Opened) -> None:
    page, path = opened
    page.resize(420, 800)
    page.open(path)
    assert page.run("document.documentElement.scrollWidth") <= 420
    page.resize(1280, 900)


def test_paper_shows_both_views_whole_and_no_controls(opened: Opened) -> None:
    page, path = opened
    page.open(path)
    page.call("Emulation.setEmulatedMedia", media="print")
    shown = "[...document.querySelectorAll('.view')].map((one) => getComputedStyle(one).display).join()"
    assert page.run(shown) == "block,block"
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.run("getComputedStyle(document.querySelector('.gantt')).overflow") == "visible"
    page.call("Emulation.setEmulatedMedia", media="")


def test_without_scripts_all_tables_and_timelines_can_be_read(opened: Opened) -> None:
    page, path = opened
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.call("Page.navigate", url=path.as_uri())
        page._receive(lambda one: one.get("method") == "Page.loadEventFired")
        root = page.call("DOM.getDocument", depth=0)["root"]["nodeId"]

        def count(selector: str) -> int:
            return len(page.call("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"])

        assert count("#tasks tbody tr") == len(whole_report().tasks)
        assert count(".view.task .bars rect.failed") == 1
        assert count("canvas") == 0
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_library_is_the_release_that_its_note_names() -> None:
    import hashlib

    from sflow_ctl.runtime.reporting import writing

    note = msgspec.json.decode((writing._HOME / "uplot.json").read_bytes())
    for name, one in note["files"].items():
        assert hashlib.sha256((writing._HOME / name).read_bytes()).hexdigest() == one["sha256"], name
    assert writing.page_files().library_version == note["version"]
    assert "</script" not in writing.page_files().library
    assert "MIT License" in (writing._HOME / "uplot.LICENSE.txt").read_text()
