"""The whole page: style, script and the chart library inside it, a policy that forbids everything else, and the sections. Pure.

`runtime/reporting` reads the bundled files and writes the page.
"""

import base64
from collections.abc import Mapping, Sequence

from msgspec import Struct

from protocol.digest import sha256
from sflow_ctl.report.page.charts import all_charts, embedded
from sflow_ctl.report.page.details import (
    about_section,
    groups_section,
    results_section,
    shown_tasks,
    tasks_section,
    usage_section,
)
from sflow_ctl.report.page.gantt import Gantt
from sflow_ctl.report.page.markup import NOTHING, Markup, joined, tag
from sflow_ctl.report.page.overview import cause_card, critical_path, heading, notes, tiles
from sflow_ctl.report.page.scale import ZOOMS
from sflow_ctl.report.run_report.model import RunReport

_LEGEND = (
    ("queued", "waits for a place"),
    ("startup", "start-up"),
    ("loading", "getting ready"),
    ("live", "running, or ready"),
    ("done", "completed"),
    ("failed", "✕ failed"),
    ("timeout", "◷ timeout"),
    ("lost", "? lost"),
    ("cancelled", "stopped"),
)

GENERATOR = "sflow-ctl report"
"""In the first lines of each page: a file of this name without it is a task's."""


class PageFiles(Struct, frozen=True):
    """What the page is made of besides its data."""

    style: str
    script: str
    library_style: str
    library: str
    version: str
    """Of sflow-ctl."""
    library_version: str


def run_page(report: RunReport, files: PageFiles) -> str:
    """Return the page about one run."""
    sections = joined(
        [
            tag("header", heading(report), tiles(report)),
            cause_card(report.cause),
            notes(report),
            timeline(report, "", [task.name for _, task in shown_tasks(report)]),
            critical_path(report),
            groups_section(report),
            usage_section(report, ""),
            results_section(report, ""),
            tasks_section(report, ""),
            about_section(report),
        ]
    )
    title = f"{report.run.workflow}: {report.run.state} ({report.run.run_id})"
    links = [("cause", "First cause")] if report.cause is not None else []
    links += [("timeline", "Timeline"), ("path", "Critical path"), ("startup", "Start-up"), ("usage", "Use")]
    links += [("results", "Results")] if report.results is not None else []
    links += [("all", "Tasks"), ("about", "Nodes and versions")]
    return document(title, sections, links, {"": report}, files)


def timeline(report: RunReport, name: str, linked: Sequence[str]) -> Markup:
    """Return the charts over time, of which one is shown; the style alone switches and widens them.

    Tasks in `linked` have a row in the table of the page.
    """
    gantt = Gantt(report, name)
    views = (
        ("task", "By task", gantt.by_task(frozenset(linked))),
        ("node", "By node and GPU", gantt.by_node()),
    )
    switches = [
        _radio(f"{name}view", f"{name}v-{word}", f"v-{word}", is_first=not number)
        for number, (word, _, _) in enumerate(views)
    ]
    zooms = [_radio(f"{name}zoom", f"{name}z-{zoom}", f"z-{zoom}", is_first=zoom == 1) for zoom in ZOOMS]
    view_labels = [
        tag("label", title, for_=f"{name}v-{word}", class_=f"l-{word}") for word, title, _ in views
    ]
    zoom_labels = [tag("label", f"{zoom}×", for_=f"{name}z-{zoom}", class_=f"l-{zoom}") for zoom in ZOOMS]
    legend = [
        tag(
            "span", tag("svg", tag("rect", width=14, height=10, class_=kind), width=14, height=10), f" {text}"
        )
        for kind, text in _LEGEND
    ]
    return tag(
        "section",
        tag("h2", "Timeline"),
        *switches,
        *zooms,
        tag(
            "div",
            tag("span", *view_labels, class_="group"),
            tag("span", "Width ", *zoom_labels, class_="group"),
            class_="tools switches",
        ),
        *(tag("div", chart, class_=f"view {word}") for word, _, chart in views),
        tag("div", *legend, class_="legend"),
        id=f"{name}timeline",
        class_="timeline",
    )


def _radio(group: str, name: str, kind: str, *, is_first: bool) -> Markup:
    return tag("input", type="radio", name=group, id=name, class_=f"switch {kind}", checked=is_first)


def document(
    title: str,
    sections: Markup,
    links: Sequence[tuple[str, str]],
    reports: Mapping[str, RunReport],
    files: PageFiles,
) -> str:
    """Return a whole page of these sections; `reports` are those whose charts it has, by the beginning of their ids."""
    charts = all_charts(reports)
    style = files.library_style + files.style if charts else files.style
    scripts = [files.library, files.script] if charts else [files.script]
    allowed = " ".join(map(_digest, scripts))
    policy = f"default-src 'none'; script-src {allowed}; style-src {_digest(style)}; base-uri 'none'; form-action 'none'"
    library = f" Charts: uPlot {files.library_version}, © Leon Sorokin, MIT licence." if charts else ""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=GENERATOR),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    navigation = tag("nav", *(tag("a", text, href=f"#{name}") for name, text in links), aria_label="Sections")
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#main", class_="skip"),
        navigation,
        tag("main", sections, id="main"),
        tag("footer", f"Made by sflow-ctl {files.version}.{library}"),
        embedded(charts) if charts else NOTHING,
        *(tag("script", Markup(text)) for text in scripts),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _digest(text: str) -> str:
    """Return how the policy names an inline style or script. Source: CSP Level 3, 2.3.1."""
    return f"'sha256-{base64.b64encode(sha256(text.encode())).decode()}'"
