"""The documents have every field of the schema, with its meaning."""

import os
from pathlib import Path

import pytest

import sflow_ctl
from sflow_ctl.format import schema
from sflow_ctl.format.presets import preset_names
from sflow_ctl.format.reference import markdown
from sflow_ctl.format.reference.fields import UnknownFieldError, describe, meanings, summary

REMEDY = "SFLOW_REWRITE=1 pytest tests/unit/format/test_reference.py writes it anew"
DOCS = Path(sflow_ctl.__file__).parents[1] / "docs"
PARTS = [
    kind
    for kind in (getattr(schema, name) for name in schema.__all__)
    if isinstance(kind, type) and issubclass(kind, schema.Part) and kind is not schema.Part
]


def between_marks(begin: str, end: str, table: str) -> str:
    """Return the generated table that one page has between these marks; SFLOW_REWRITE=1 writes `table` there."""
    pages = [page for page in sorted(DOCS.rglob("*.md")) if begin in page.read_text()]
    assert len(pages) == 1, f"exactly one page must have the mark {begin}"
    text = pages[0].read_text()
    found = text[text.index(begin) : text.index(end) + len(end)]
    if os.environ.get("SFLOW_REWRITE"):
        pages[0].write_text(text.replace(found, table))
        return table
    return found


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
def test_every_field_has_a_meaning_that_is_a_sentence(kind: type[schema.Part]) -> None:
    found = meanings(kind)
    assert set(found) == set(kind.__struct_fields__)
    assert all(len(text) > 10 and text[-1] == "." for text in [summary(kind), *found.values()])


def test_the_page_of_fields_is_generated_from_the_schema() -> None:
    remedy = "run: python -m sflow_ctl.format.reference.markdown docs"
    assert (DOCS / markdown.PAGE).read_text() == markdown.format_page(), remedy


def test_the_table_of_settings_is_generated_from_the_schema() -> None:
    table = markdown.settings_table()
    assert between_marks(markdown.BEGIN, markdown.END, table) == table, REMEDY


def test_the_table_of_reasons_is_that_of_the_code() -> None:
    table = markdown.reason_table()
    assert between_marks(markdown.REASONS_BEGIN, markdown.REASONS_END, table) == table, REMEDY


def test_every_link_of_a_table_leads_to_a_heading() -> None:
    text = markdown.format_page()
    headings = {line.removeprefix("## ").lower() for line in text.splitlines() if line.startswith("## ")}
    links = {part.split(")")[0] for part in text.split("](#")[1:]}
    assert links
    assert links <= headings


def test_every_type_is_on_the_page() -> None:
    text = markdown.format_page()
    beside = {schema.WorkflowSettings, schema.SiteFile}
    assert all(f"\n## {kind.__name__}\n" in text for kind in PARTS if kind not in beside)


@pytest.mark.parametrize(
    ("path", "struct", "takes", "default"),
    [
        ("workflow.tasks.probes.readiness.interval", "Probe", "duration", "5"),
        ("tasks.script", "Task", "text, or a list of them", "required"),
        ("tasks.retries", "Task", "[Retries] or number", ""),
        ("tasks.depends_on", "Task", "text or [Dependency], or a list of them", ""),
        ("Task.finally", "Task", "true/false or `after_stop` or `services_up`", "false"),
        ("tasks.ports.count", "Ports", "number", "1"),
        ("tasks.files.from", "File", "text", ""),
        ("tasks.outputs.metrics.aggregate", "Metric", "text", ""),
        ("workflow.timeout", "Workflow", "duration", ""),
        ("headroom", "SiteFile", "duration", "60"),
        ("variables", "Document", "list of [Variable]", ""),
    ],
)
def test_a_field_is_described_by_its_path(path: str, struct: str, takes: str, default: str) -> None:
    found = describe(path)
    assert (found.path, found.struct, found.takes, found.default) == (path, struct, takes, default)
    assert found.meaning


def test_a_described_mapping_lists_its_fields() -> None:
    assert describe("tasks.retries").fields[:4] == ("count", "interval", "backoff", "max_interval")
    assert describe("tasks.retries.count").fields == ()


@pytest.mark.parametrize(
    ("path", "key", "guess"),
    [("tasks.scirpt", "scirpt", "script"), ("tasks.script.x", "x", None), ("Task", "", None), ("", "", None)],
)
def test_a_path_that_leads_nowhere_names_what_is_there(path: str, key: str, guess: str | None) -> None:
    with pytest.raises(UnknownFieldError) as caught:
        describe(path)
    assert (caught.value.key, caught.value.guess) == (key, guess)


def test_the_presets_that_exist_are_named() -> None:
    assert all(f"`{name}`" in describe("tasks.uses").meaning for name in preset_names())
