"""The document of the format has every field that there is."""

from pathlib import Path

import sflow_ctl
from sflow_ctl.format.reference import (
    BEGIN,
    END,
    REASONS_BEGIN,
    REASONS_END,
    field_tables,
    reason_table,
    settings_table,
)

DOCUMENT = Path(sflow_ctl.__file__).parents[1] / "docs" / "format.md"


def generated(document: Path) -> str:
    """What stands between the two marks."""
    text = document.read_text()
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def test_the_tables_are_those_of_the_types() -> None:
    assert generated(DOCUMENT) == field_tables(), "put the output of field_tables() between the two marks"


def test_the_table_of_settings_is_that_of_the_type() -> None:
    remedy = "put the output of settings_table() between the two marks"
    assert generated(DOCUMENT.with_name("site.md")) == settings_table(), remedy


def test_the_table_of_reasons_is_that_of_the_code() -> None:
    text = DOCUMENT.read_text()
    table = text[text.index(REASONS_BEGIN) : text.index(REASONS_END) + len(REASONS_END)]
    assert table == reason_table(), "put the output of reason_table() between the two marks"


def test_every_link_of_a_table_leads_to_a_heading() -> None:
    text = DOCUMENT.read_text()
    headings = {line.removeprefix("### ").lower() for line in text.splitlines() if line.startswith("### ")}
    links = {part.split(")")[0] for part in text.split("](#")[1:]}
    assert links and links <= headings
