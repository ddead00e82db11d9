"""Files of a run that another version has written, or that are damaged: what cannot be read is named."""

import json
from pathlib import Path

import pytest

from sflow_ctl.runtime.journal.reader import EVERYTHING, JournalReader
from sflow_ctl.runtime.record import layout
from sflow_ctl.version import VERSION
from tests.support import sflow_ctl


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    text = '{version: "0.1", workflow: {name: w, tasks: [{name: a, script: ["true"]}, {name: b, script: ["false"]}]}}'
    (tmp_path / "w.yaml").write_text(text)
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 1
    return tmp_path / "sflow_output" / "r"


@pytest.mark.parametrize(
    ("file", "field"), [(layout.RUN, "format"), (layout.PLAN, "version"), (layout.SUMMARY, "version")]
)
def test_a_file_of_a_newer_format_is_refused_by_name(
    failed: Path, tmp_path: Path, file: str, field: str
) -> None:
    content = json.loads((failed / file).read_bytes())
    assert content[field] == 1
    newer = json.dumps({**content, field: 99})
    (failed / file).write_text(newer)
    for arguments in (("status", "r"), ("run", "--resume", "r"), ("rerun", "r")):
        done = sflow_ctl(*arguments, cwd=tmp_path)
        assert done.returncode in (2, 3), done.stdout + done.stderr
        assert f"{file} was not written by this version: it has format 99; this version reads up to 1" in (
            done.stderr
        )
    assert (failed / file).read_text() == newer


def test_a_resume_says_that_another_version_made_the_run(failed: Path, tmp_path: Path) -> None:
    facts = failed / layout.RUN
    facts.write_bytes(facts.read_bytes().replace(b'"version":"%s"' % VERSION.encode(), b'"version":"0.1.9"'))
    done = sflow_ctl("rerun", "r", "--dry-run", cwd=tmp_path)
    assert done.stderr.count(f"the run was made by sflow-ctl 0.1.9; this is {VERSION}") == 1


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
