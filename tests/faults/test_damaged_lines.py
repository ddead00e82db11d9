"""A damaged journal of a run: what cannot be read is named."""

from pathlib import Path

import pytest

from sflow_ctl.runtime.journal.reader import EVERYTHING, JournalReader
from sflow_ctl.runtime.record import layout
from tests.support import sflow_ctl


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    text = '{version: "0.1", workflow: {name: w, tasks: [{name: a, script: ["true"]}, {name: b, script: ["false"]}]}}'
    (tmp_path / "w.yaml").write_text(text)
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 1
    return tmp_path / "sflow_output" / "r"


@pytest.mark.parametrize(("line", "before"), [(1, 0), (5, 4)])
def test_the_first_damaged_line_is_named(failed: Path, line: int, before: int) -> None:
    journal = failed / layout.JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    for at in (line, len(lines) - 1):  # the last one keeps its number, which hides the damage from a count
        lines[at - 1] = lines[at - 1].replace(b'"kind":', b'"kind";', 1)
    journal.write_bytes(b"".join(lines))
    reader = JournalReader(failed)
    list(reader.entries(EVERYTHING))
    assert reader.problems() == [f"2 lines of events.jsonl cannot be read, the first after line {before}"]
