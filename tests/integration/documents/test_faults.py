"""The table of reported faults in `tests/README.md` names the tests that there are; `SFLOW_REWRITE=1` writes it anew."""

import os
import re
from collections import defaultdict

from tests.documents.blocks import ROOT

TESTS = ROOT / "tests"
README = TESTS / "README.md"
UX_FEATURES = (4,)
"""Listing and stopping runs: features, not faults."""
NO_TEST = "no test by this number"
_TEST = re.compile(
    r"^ *def (test_(?:public_(n?)(\d+)|clusters_([ft]\d+|minor)|ux_(\d+)|([rsanpl])(\d+))_\w+)\(",
    re.MULTILINE,
)
_ROW = re.compile(
    r"^\| (?P<number>(?:public |clusters |ux )?[A-Z]?\d+|clusters minor) \| (?P<what>[^|]+?) \| (?P<tests>[^|]*?) \|$",
    re.MULTILINE,
)


def by_number() -> dict[str, str]:
    """Return what belongs into the last column."""
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, public_n, public, cluster, ux, letter, number in _TEST.findall(
            path.read_text(encoding="utf-8")
        ):
            if public:
                key = f"public {public_n.upper()}{int(public)}"
            elif cluster == "minor":
                key = "clusters minor"
            elif ux:
                key = f"ux {int(ux)}"
            else:
                key = (
                    f"clusters {cluster[0].upper()}{int(cluster[1:])}"
                    if cluster
                    else f"{letter.upper()}{int(number)}"
                )
            found[key].setdefault(str(path.relative_to(TESTS)), []).append(f"`{name}`")
    return {
        key: "; ".join(f"{file}: {', '.join(names)}" for file, names in files.items())
        for key, files in found.items()
    }


def table() -> str:
    """Return the part of the page that has the table."""
    text = README.read_text(encoding="utf-8")
    return text[text.index("## Reported faults") :]


def test_the_table_of_reported_faults_names_their_tests() -> None:
    known = by_number()
    if os.environ.get("SFLOW_REWRITE"):
        new = _ROW.sub(
            lambda row: f"| {row['number']} | {row['what']} | {known.get(row['number'], NO_TEST)} |", table()
        )
        README.write_text(README.read_text(encoding="utf-8").replace(table(), new), encoding="utf-8")
    shown = {row["number"]: row["tests"] for row in _ROW.finditer(table())}
    assert known.keys() <= shown.keys(), "a test has a number that the table does not know"
    assert shown == {number: known.get(number, NO_TEST) for number in shown}


def test_the_table_has_every_number() -> None:
    numbers = {row["number"] for row in _ROW.finditer(table())}
    wanted = {f"public {n}" for n in range(1, 27)} | {f"public N{n}" for n in range(1, 7)}
    wanted |= (
        {f"clusters F{n}" for n in range(1, 16)}
        | {f"clusters T{n}" for n in range(3, 8)}
        | {f"P{n}" for n in range(1, 13)}
        | {f"L{n}" for n in range(1, 9)}
    )
    wanted |= (
        {f"S{n}" for n in range(1, 12)} | {f"A{n}" for n in range(1, 13)} | {f"N{n}" for n in range(1, 8)}
    )
    wanted |= {f"ux {n}" for n in range(1, 16) if n not in UX_FEATURES}
    assert wanted <= numbers
