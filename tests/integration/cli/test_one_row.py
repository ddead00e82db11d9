"""`run -b CSV --row N`."""

from pathlib import Path

import pytest

from tests.support import sflow_ctl

WORKFLOW = """
version: "0.1"
variables: {A: 1, B: x}
workflow:
  name: w
  tasks:
    - {name: t, script: ['echo "A=$A B=$B"']}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    (tmp_path / "s.csv").write_text("sflow_config_file,A,B\nw.yaml,2,y\nw.yaml,3,z\n")
    return tmp_path


@pytest.mark.parametrize(("row", "expected"), [("1", "A=2 B=y"), ("-1", "A=3 B=z")])
def test_one_row_is_run(row: str, expected: str, folder: Path) -> None:
    done = sflow_ctl("run", "-b", "s.csv", "--row", row, "--run-id", "r", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "sflow_output/r/t/t.log").read_text() == f"{expected}\n"


def test_set_wins_over_the_cell(folder: Path) -> None:
    done = sflow_ctl("run", "-b", "s.csv", "--row", "1", "--set", "A=9", "--dry-run", cwd=folder)
    assert "A=9" in done.stdout
    assert "--set A=9 wins over the cell" in done.stderr


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("-b", "s.csv"), "--bulk-input needs --row"),
        (("--row", "1"), "--row needs --bulk-input"),
        (("-b", "s.csv", "--row", "1:3"), "selects 2 rows"),
        (("-b", "s.csv", "--row", "-3"), "there is no row -3"),
    ],
)
def test_it_must_be_one_row(options: tuple[str, ...], what: str, folder: Path) -> None:
    done = sflow_ctl("run", *options, cwd=folder)
    assert done.returncode == 2
    assert what in done.stderr
