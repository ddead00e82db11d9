"""Pages that are made from the source are up to date: `SFLOW_REWRITE=1` writes them anew."""

import os
import re
from pathlib import Path

import pytest

from protocol.errors import ExitStatus
from tests.documents import generated, states
from tests.documents.blocks import ROOT

DOCS = ROOT / "docs"
_OURS = re.compile(r"SFLOW_[A-Z][A-Z_]*[A-Z]")
_TESTS_ONLY = {"SFLOW_REWRITE"}


def rewritten(page: Path, text: str) -> str:
    """Return the content of the page, after writing it if that is requested."""
    if os.environ.get("SFLOW_REWRITE"):
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
    return generated.read(page)


def test_the_page_of_message_codes_is_generated() -> None:
    page = DOCS / "reference" / "messages.md"
    assert rewritten(page, generated.codes_page()) == generated.codes_page(), "SFLOW_REWRITE=1 writes it anew"


def test_the_state_diagrams_are_those_of_the_tables() -> None:
    made = {"states.md": states.page(), **states.pictures()}
    for name, text in made.items():
        assert rewritten(DOCS / name, text) == text, f"{name}: SFLOW_REWRITE=1 writes it anew"
    drawn = {str(picture.relative_to(DOCS)) for picture in (DOCS / "images").glob("*_states.svg")}
    assert drawn == states.pictures().keys()


@pytest.mark.parametrize("diagram", states.DIAGRAMS, ids=lambda diagram: diagram.name)
def test_a_state_diagram_shows_every_change_of_its_table_once(diagram: states.Diagram) -> None:
    assert set(diagram.places) == set(diagram.table) == set(diagram.states)
    drawn = [
        (source, target)
        for start, target in diagram.arrows()
        for source in (start.states if isinstance(start, states.Group) else (start,))
    ]
    legal = [(source, target) for source, targets in diagram.table.items() for target in targets]
    assert sorted(drawn, key=str) == sorted(legal, key=str)


def test_every_code_of_the_troubleshooting_page_exists() -> None:
    headings = re.findall(r"^### `([a-z-]+)`", generated.read(DOCS / "troubleshooting.md"), re.MULTILINE)
    assert headings
    assert set(headings) <= generated.message_codes().keys()


def test_every_exit_status_is_documented() -> None:
    text = generated.read(DOCS / "reference" / "exit_statuses.md")
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert documented == {int(status) for status in ExitStatus}


def test_every_variable_of_ours_is_documented() -> None:
    in_source = {
        name
        for package in generated.PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in _OURS.findall(path.read_text(encoding="utf-8"))
    }
    documented = set(_OURS.findall(generated.read(DOCS / "reference" / "environment.md")))
    ports = {name for name in in_source | documented if name.startswith(("SFLOW_PORT_", "SFLOW_PORTS_"))}
    prefixes = {"SFLOW_PORT", "SFLOW_PORTS", "SFLOW_AGENT", "SFLOW_ENVIRONMENT"}
    assert in_source - ports - prefixes <= documented | _TESTS_ONLY
    assert documented - ports <= in_source, "documented, but nowhere in the source"


@pytest.mark.parametrize("page", sorted(generated.FILE_PAGES))
def test_the_formats_of_files_are_those_of_the_types(page: str) -> None:
    text = generated.FILE_PAGES[page]()
    assert rewritten(DOCS / "reference" / page, text) == text, "SFLOW_REWRITE=1 writes it anew"


@pytest.mark.parametrize("page", sorted(generated.FILE_PAGES))
def test_every_field_of_a_file_has_a_meaning(page: str) -> None:
    empty = re.findall(r"^\| `(\w+)` \| [^|]* \|  \|$", generated.FILE_PAGES[page](), re.MULTILINE)
    assert not empty, f"a docstring below each of {empty}"
