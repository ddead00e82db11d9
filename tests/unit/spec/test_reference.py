"""The document of the format has every field that there is."""

from pathlib import Path

import sflow_ctl
from sflow_ctl.spec.reference import BEGIN, END, field_tables

DOCUMENT = Path(sflow_ctl.__file__).parents[1] / "docs" / "format.md"


def test_the_tables_are_those_of_the_types() -> None:
    text = DOCUMENT.read_text()
    tables = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert tables == field_tables(), "put the output of field_tables() between the two marks"


def test_every_link_of_a_table_leads_to_a_heading() -> None:
    text = DOCUMENT.read_text()
    headings = {line.removeprefix("### ").lower() for line in text.splitlines() if line.startswith("### ")}
    links = {part.split(")")[0] for part in text.split("](#")[1:]}
    assert links and links <= headings
