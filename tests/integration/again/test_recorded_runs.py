"""Run directories of every past format are read and continued; newer ones, and those of version 0.1, are refused with advice.

`recorded` has one directory for each format: a run whose task `b` has failed on its first attempt. When a format grows, record a
run of the version before it, and keep the old ones.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from sflow_ctl.runtime.record.directory import RUN_FORMAT
from sflow_ctl.version import VERSION
from tests.support import sflow_ctl

RECORDED = Path(__file__).with_name("recorded")
FORMATS = sorted(path.name for path in RECORDED.iterdir())


def copied(name: str, place: Path) -> Path:
    """A recorded run as a run `r` of `place`; returns the directory of its files."""
    shutil.copytree(RECORDED / name, place / "sflow_output" / "r")
    return place / "sflow_output" / "r" / ".sflow"


def test_there_is_a_recorded_run_of_each_format() -> None:
    assert [f"format_{number}" for number in range(1, RUN_FORMAT + 1)] == FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_a_recorded_run_is_shown_and_run_again(name: str, tmp_path: Path) -> None:
    ours = copied(name, tmp_path)
    shown = sflow_ctl("status", "r", "--json", cwd=tmp_path)
    states = {task["name"]: task["state"] for task in json.loads(shown.stdout)["tasks"]}
    assert states == {"a": "completed", "b": "failed", "c": "skipped"}, shown.stdout + shown.stderr
    assert "2.5" in sflow_ctl("outputs", "r", cwd=tmp_path).stdout
    assert "rate = 2.5 tok/s" in sflow_ctl("logs", "a", "--run", "r", cwd=tmp_path).stdout
    assert sflow_ctl("report", "r", cwd=tmp_path).returncode == 0
    done = sflow_ctl("rerun", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    tasks = json.loads((ours / "summary.json").read_text())["tasks"]
    assert [(one["name"], one["state"], one["attempts"]) for one in tasks] == [
        ("a", "completed", 1),
        ("b", "completed", 2),
        ("c", "completed", 1),
    ]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("run.json", r'"format":\d+', '"format":1000'),
        ("run.json", r'"run_id":"\w+"(.*)"format":\d+', r'"run_id":7\1"format":1000'),
        ("plan.json", r'^{"version":\d+', '{"version":1000'),
        ("plan.json", r'^{"version":\d+', '{"version":1000,"nodes":7'),
        ("summary.json", r'"version": \d+', '"version": 1000'),
        ("events.jsonl", r'"format":\d+', '"format":1000'),
    ],
)
def test_a_file_of_a_newer_format_is_refused(file: str, old: str, new: str, tmp_path: Path) -> None:
    path = copied(FORMATS[-1], tmp_path) / file
    text = path.read_text().replace(f'"version":"{VERSION}"', '"version":"9.1.0"')
    run = path.with_name("run.json")
    run.write_text(run.read_text().replace(f'"version":"{VERSION}"', '"version":"9.1.0"'))
    text = re.sub(old, new, text, count=1, flags=re.DOTALL)
    path.write_text(text)
    done = sflow_ctl("rerun", "r", "b", cwd=tmp_path)
    assert done.returncode != 0
    assert f"{file} was written by sflow-ctl 9.1.0, in format 1000; this version" in done.stderr
    assert "hint:  use sflow-ctl 9.1.0" in done.stderr
    assert path.read_text() == text


def test_another_version_with_the_same_format_is_said_once(tmp_path: Path) -> None:
    path = copied(FORMATS[-1], tmp_path) / "run.json"
    path.write_text(re.sub('"version":"[^"]*"', '"version":"0.1.9"', path.read_text()))
    said = f"warning: sflow-ctl 0.1.9 wrote the run; this is {VERSION}"
    counts = []
    for _ in range(2):
        done = sflow_ctl("rerun", "r", "a", cwd=tmp_path)
        counts.append((done.stdout + done.stderr).count(said))
    assert counts == [1, 0]


def test_a_run_of_version_0_1_is_named_as_such(tmp_path: Path) -> None:
    run = tmp_path / "old"
    run.mkdir()
    for name in ("run.json", "plan.json", "events.jsonl"):
        (run / name).write_text("{}")
    for argument in ("old", str(run)):
        done = sflow_ctl("status", argument, cwd=tmp_path)
        assert done.returncode != 0
        assert f"{argument} is a run directory of sflow-ctl 0.1" in done.stderr
