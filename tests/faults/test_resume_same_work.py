"""What a resumed run keeps and what it runs again, on real runs: said before anything runs, and in every record."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.viewing.client import Current, connect
from sflow_ctl.runtime.viewing.messages import Change
from tests.support import Run, command, sflow_ctl, wait_until

LAST = """
    - {name: last, script: ["test -e $SFLOW_WORKSPACE_DIR/go"], depends_on: [a]}
"""


def file_of(tmp_path: Path, head: str, task: str, more: str = LAST) -> None:
    text = f'version: "0.1"\n{head}\nworkflow:\n  name: w\n  tasks:\n    - {task}{more}'
    (tmp_path / "w.yaml").write_text(text)


def first(tmp_path: Path, head: str, task: str, more: str = LAST) -> None:
    """A run whose task `a` completes and whose last task fails; the next time it will not."""
    file_of(tmp_path, head, task, more)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    (tmp_path / "go").touch()


def again(tmp_path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return sflow_ctl("run", "w.yaml", "--resume", "r", *options, cwd=tmp_path)


def resuming(tmp_path: Path) -> Run:
    """A resume that goes on."""
    process = subprocess.Popen(
        command("run", "w.yaml", "--resume", "r"),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return Run(process, tmp_path / "sflow_output" / "r")


def log(tmp_path: Path, task: str = "a") -> str:
    return (tmp_path / "sflow_output" / "r" / task / f"{task}.log").read_text()


CONTENT = "artifacts: [{name: CONF, uri: file://c.ini, content: %s}]"
FILE = "artifacts: [{name: DATA, uri: file://data.txt}]"
ECHO = "{name: a, script: [cat $CONF]}"
CHANGES = {
    "inline-config": (CONTENT % "v1", ECHO, CONTENT % "v2", ECHO, "the content of its artifact CONF changed"),
    "python": (
        "operators: [{name: py, type: python, python_exec: python3}]",
        "{name: a, operator: py, script: [print(1)]}",
        "operators: [{name: py, type: python, python_exec: python}]",
        "{name: a, operator: py, script: [print(1)]}",
        "its program changed from python3 to python",
    ),
    "success": (
        "",
        "{name: a, script: [echo fine]}",
        "",
        "{name: a, script: [echo fine], success: {forbid: [bad]}}",
        "its conditions of success changed",
    ),
    "variable": (
        "variables: {V: x}",
        "{name: a, script: [echo $V]}",
        "variables: {V: y}",
        "{name: a, script: [echo $V]}",
        "its environment variable V changed from x to y",
    ),
    "file": (
        "",
        "{name: a, script: [cat $SFLOW_TASK_FILES_DIR/f], files: {f: one}}",
        "",
        "{name: a, script: [cat $SFLOW_TASK_FILES_DIR/f], files: {f: two}}",
        "its file f changed",
    ),
    "outputs": (
        "",
        "{name: a, script: [echo x = 5]}",
        "",
        "{name: a, script: [echo x = 5], outputs: [{pattern: 'x = {x:d}'}]}",
        "its outputs changed",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_public_08_what_has_changed_runs_again_and_is_named_before(tmp_path: Path, change: str) -> None:
    head, task, new_head, new_task, reason = CHANGES[change]
    first(tmp_path, head, task)
    file_of(tmp_path, new_head, new_task)
    done = again(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"a runs again: {reason}" in done.stderr, done.stderr
    assert "last runs again: it had not completed: failed" in done.stderr
    run = tmp_path / "sflow_output" / "r"
    summary = json.loads((run / ".sflow/summary.json").read_bytes())
    assert summary["resumed"]["kept"] == []
    assert {"task": "a", "reason": reason} in summary["resumed"]["again"]
    assert [one["attempts"] for one in summary["tasks"] if one["name"] == "a"] == [2]
    assert reason in (run / ".sflow/events.jsonl").read_text()
    assert f"a runs again: {reason}" in (run / "sflow.log").read_text()


def test_r3_the_content_of_a_file_artifact_is_compared(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("old")
    task, other = "{name: a, script: [cat $DATA]}", "\n    - {name: other, script: [echo other]}\n"
    first(tmp_path, FILE, task, other + LAST.lstrip("\n"))
    (tmp_path / "data.txt").write_text("new")
    os.utime(tmp_path / "data.txt", (0, 0))
    done = again(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "kept: other" in done.stderr
    assert "a runs again: the content of its artifact DATA changed" in done.stderr
    assert log(tmp_path) == "new"


def test_r3_a_directory_artifact_is_compared_by_what_is_in_it(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "x").write_text("old")
    first(tmp_path, FILE, "{name: a, script: [cat $DATA/sub/x]}")
    (data / "sub" / "x").write_text("new")
    assert "the content of its artifact DATA changed" in again(tmp_path).stderr


def test_r3_what_links_in_a_directory_artifact_lead_to_is_compared(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data.txt", tmp_path / "elsewhere"
    data.mkdir()
    elsewhere.mkdir()
    (elsewhere / "x").write_text("old")
    (data / "link").symlink_to(elsewhere)
    (data / "cycle").symlink_to(data)
    first(tmp_path, FILE, "{name: a, script: [cat $DATA/link/x]}")
    (elsewhere / "x").write_text("new")
    assert "the content of its artifact DATA changed" in again(tmp_path).stderr


def test_public_08_what_needs_what_runs_again_runs_again(tmp_path: Path) -> None:
    chain = """
    - {name: b, script: ["echo b"], depends_on: [a]}
    - {name: c, script: ["echo c"]}
    - {name: last, script: ["test -e $SFLOW_WORKSPACE_DIR/go"], depends_on: [b, c]}
"""
    first(tmp_path, "", "{name: a, script: [echo old]}", chain)
    file_of(tmp_path, "", "{name: a, script: [echo new]}", chain)
    shown = sflow_ctl("run", "w.yaml", "--resume", "r", "--dry-run", cwd=tmp_path)
    done = again(tmp_path)
    for lines in (shown.stdout, done.stderr):
        assert "kept: c\n" in lines
        assert "a runs again: its script changed" in lines
        assert "b runs again: it needs a, which runs again" in lines
    assert log(tmp_path) == "new\n"
    positions = [done.stderr.find(text) for text in ("kept: c", "a runs again", "b runs again")]
    assert positions == sorted(positions)


def test_nothing_that_is_unchanged_runs_again(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("same")
    head = FILE.replace("]", ", {name: CONF, uri: file://c.ini, content: v1}]")
    first(
        tmp_path,
        head,
        "{name: a, script: [cat $DATA $CONF; echo more >> $CONF], retries: {count: 1, interval: 1}}",
    )
    file_of(
        tmp_path,
        head,
        "{name: a, script: [cat $DATA $CONF; echo more >> $CONF], timeout: 99, retries: {count: 3, interval: 1}}",
    )
    done = again(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "kept: a\n" in done.stderr
    summary = json.loads((tmp_path / "sflow_output/r/.sflow/summary.json").read_bytes())
    assert summary["resumed"]["kept"] == ["a"]
    assert (tmp_path / "sflow_output/r/c.ini").read_text() == "v1more\n"  # a's result, not written anew


def test_r5_a_resume_that_died_before_it_began_leaves_no_stale_result(tmp_path: Path) -> None:
    first(tmp_path, "", "{name: a, script: [echo old]}")
    file_of(tmp_path, "", "{name: a, script: [echo new]}")
    run = tmp_path / "sflow_output" / "r"
    (
        run / ".sflow/connection.json"
    ).mkdir()  # the last file before a controller begins: it cannot be replaced
    assert again(tmp_path).returncode != 0
    (run / ".sflow/connection.json").rmdir()
    plan = json.loads((run / ".sflow/plan.json").read_bytes())
    assert plan["tasks"][0]["script"] == "echo new"  # of the controller that died
    done = again(tmp_path)
    assert "a runs again: its script changed" in done.stderr, done.stderr
    assert log(tmp_path) == "new\n"


def test_r5_a_resume_that_was_killed_before_a_task_ran_again_leaves_no_stale_result(tmp_path: Path) -> None:
    blocks = "{name: block, script: ['sleep 600']}"
    more = f"\n    - {blocks}{LAST}"
    first(tmp_path, "", "{name: a, script: [echo old], depends_on: []}")
    file_of(tmp_path, "", "{name: a, script: [echo new], depends_on: [block]}", more)
    run = resuming(tmp_path)
    try:
        run.wait_for("block", "running")
        run.kill_both()
    finally:
        run.kill()
    file_of(tmp_path, "", "{name: a, script: [echo new]}")
    done = again(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a runs again" in done.stderr
    assert log(tmp_path) == "new\n"


def seen_by_a_viewer(run: Run) -> dict[str, str]:
    """What the controller itself says to a viewer that has no files."""
    facts = RunReader(run.directory).connection()
    assert facts is not None
    link = connect(facts)
    assert link is not None
    seen: dict[str, str] = {}

    def is_current() -> bool:
        events = link.receive(0.1)
        seen.update(
            {one.transition.task: str(one.transition.new) for one in events if isinstance(one, Change)}
        )
        return any(isinstance(one, Current) for one in events)

    try:
        wait_until(is_current, "all changes")
    finally:
        link.close()
    return seen


def test_clusters_minor_the_status_of_a_resumed_run_shows_what_had_completed(tmp_path: Path) -> None:
    first(tmp_path, "", "{name: a, script: [echo a]}")
    file_of(tmp_path, "", "{name: a, script: [echo a]}", LAST.replace("test -e", "sleep 600; test -e"))
    run = resuming(tmp_path)
    try:
        run.wait_for("last", "running")
        shown = sflow_ctl("status", "r", cwd=tmp_path)
        assert re.search(r"^a +completed", shown.stdout, re.MULTILINE), shown.stdout
        state = json.loads(sflow_ctl("status", "r", "--json", cwd=tmp_path).stdout)
        assert {one["name"]: one["state"] for one in state["tasks"]} == {"a": "completed", "last": "running"}
        assert seen_by_a_viewer(run) == {"a": "completed", "last": "running"}
    finally:
        run.kill()
