"""`events`: the journal as lines and as JSON."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support import Run, command, sflow_ctl


def test_events_of_an_ended_run_in_order(ended: Run, tmp_path: Path) -> None:
    shown = sflow_ctl("events", cwd=tmp_path).stdout.splitlines()
    texts = [line.split("  ", 1)[1] for line in shown]
    assert texts[0].startswith("localhost: agent pid")
    assert any(text.startswith("after waiting -> ") for text in texts)
    assert any(text.startswith("bad#1 running -> failed, exit status 3, after ") for text in texts)
    assert len(sflow_ctl("events", "-n", "2", cwd=tmp_path).stdout.splitlines()) == 2
    of_bad = sflow_ctl("events", "--task", "b*", "--type", "process", cwd=tmp_path).stdout.splitlines()
    assert all("bad#1" in line for line in of_bad)
    assert any("bad#1 exited on localhost: 3" in line for line in of_bad)


def test_events_for_programs_have_the_entry_of_the_journal(ended: Run, tmp_path: Path) -> None:
    lines = [
        json.loads(line)
        for line in sflow_ctl("events", "--json", "--type", "all", cwd=tmp_path).stdout.splitlines()
    ]
    assert [line["seq"] for line in lines] == [entry.seq for entry in ended.entries()]
    (failed,) = [line for line in lines if line["task"] == "bad" and "failed" in line["text"]]
    assert (failed["version"], failed["type"]) == (1, "state")
    assert failed["entry"]["transition"]["exit_code"] == 3


def test_following_ends_with_the_run_and_with_a_killed_controller(
    live: Run, tmp_path: Path, kill: Callable[[Run], None]
) -> None:
    with subprocess.Popen(
        command("events", "-f"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        for line in following.stdout:
            if "srv#1 starting -> running" in line:
                break
        kill(live)
        assert following.wait(timeout=60) == 0
    done = sflow_ctl("events", "-f", "live", cwd=tmp_path)
    assert done.returncode == 0
    assert "good#1 running -> completed" in done.stdout


def test_a_journal_that_is_missing_or_torn_is_read_as_far_as_it_goes(ended: Run, tmp_path: Path) -> None:
    journal = ended.directory / ".sflow/events.jsonl"
    whole = sflow_ctl("events", cwd=tmp_path).stdout
    with journal.open("ab") as file:
        file.write(b'not json\n{"seq":')
    assert sflow_ctl("events", cwd=tmp_path).stdout == whole
    journal.unlink()
    nothing = sflow_ctl("events", cwd=tmp_path)
    assert (nothing.returncode, nothing.stdout) == (0, "")
