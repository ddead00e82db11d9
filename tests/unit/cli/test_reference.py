"""The reference of the command line."""

from pathlib import Path

from sflow_ctl.cli.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def test_the_page_of_commands_is_generated_from_the_commands() -> None:
    fresh = reference()
    assert PAGE.read_text(encoding="utf-8") == fresh, (
        "run: python -m sflow_ctl.cli.reference > docs/reference/cli.md"
    )


def test_every_option_has_a_help_text() -> None:
    empty = [line for line in reference().split("\n") if line.startswith("| `") and line.endswith("|  |")]
    assert empty == []
