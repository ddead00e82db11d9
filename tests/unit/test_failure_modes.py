"""The table of failure modes in `tests/README.md` names the tests that there are, and none is missing."""

import os
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
README = TESTS / "README.md"
_TEST = re.compile(r"^ *(?:async )?def (test_f(\d\d)_\w+)\(", re.MULTILINE)
_ROW = re.compile(r"^\| F(\d+) \| (?P<what>[^|]+?) \| (?P<tests>[^|]*?) \|$", re.MULTILINE)
REQUIRED = {*range(1, 34), *range(35, 44), 53, 57, *range(59, 64), 66}


def by_number() -> dict[int, str]:
    """Return the content of the last column."""
    found: dict[int, dict[str, list[str]]] = defaultdict(dict)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, number in _TEST.findall(path.read_text()):
            found[int(number)].setdefault(str(path.relative_to(TESTS)), []).append(f"`{name}`")
    return {
        number: "; ".join(f"{file}: {', '.join(names)}" for file, names in files.items())
        for number, files in found.items()
    }


def test_the_table_of_failure_modes_names_their_tests() -> None:
    known, text = by_number(), README.read_text()
    if os.environ.get("SFLOW_REWRITE"):
        text = _ROW.sub(lambda row: f"| F{row[1]} | {row['what']} | {known.get(int(row[1]), '')} |", text)
        README.write_text(text)
    shown = {int(row[1]): row["tests"] for row in _ROW.finditer(text)}
    assert shown == known


def test_every_failure_mode_that_must_have_a_test_has_one() -> None:
    assert by_number().keys() >= REQUIRED
