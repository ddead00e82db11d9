"""What a resume reads may be damaged, and what a run prints to may never be read: a clear end in each case."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import command, sflow_ctl, wait_until

TEXT = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ["echo a >> $SFLOW_WORKSPACE_DIR/a.count"]}
    - {name: b, depends_on: [a], script: ["test -e $SFLOW_WORKSPACE_DIR/go"]}
"""


def failed(where: Path) -> Path:
    """A run whose second task has failed, and will not the next time."""
    where.mkdir(exist_ok=True)
    (where / "w.yaml").write_text(TEXT)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=where)
    assert done.returncode == 1, done.stderr
    (where / "go").touch()
    return where / "sflow_output" / "r"


def torn_end(journal: bytes) -> bytes:
    return journal[:-20]


def garbage_between(journal: bytes) -> bytes:
    lines = journal.splitlines(keepends=True)
    return b"".join([*lines[:2], os.urandom(3000) + b"\n", b"\n", *lines[2:]])


def huge_number(journal: bytes) -> bytes:
    return journal.replace(b'"wall_ns":', b'"wall_ns":1' + b"9" * 25, 1)


def unknown_task(journal: bytes) -> bytes:
    return journal + journal.splitlines(keepends=True)[-1].replace(b'"a"', b'"other"')


@pytest.mark.parametrize("damage", [torn_end, garbage_between, huge_number, unknown_task])
def test_a8_a_damaged_journal_is_read_as_far_as_it_goes(tmp_path: Path, damage: object) -> None:
    run = failed(tmp_path / "p")
    journal = run / ".sflow/events.jsonl"
    journal.write_bytes(damage(journal.read_bytes()))  # type: ignore[operator]
    shown = sflow_ctl("status", "r", cwd=tmp_path / "p")
    assert shown.returncode == 0, shown.stderr
    done = sflow_ctl("run", "--resume", "r", cwd=tmp_path / "p")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bug" not in done.stderr


@pytest.mark.parametrize("name", ["events.jsonl", "plan.json", "run.json"])
def test_a8_a_fifo_in_place_of_a_file_hangs_nothing(tmp_path: Path, name: str) -> None:
    run = failed(tmp_path / "p")
    (run / ".sflow" / name).unlink()
    os.mkfifo(run / ".sflow" / name)
    for arguments in (("status", "r"), ("run", "--resume", "r")):
        done = sflow_ctl(*arguments, cwd=tmp_path / "p", within_s=40)
        assert done.returncode in (2, 3), done.stdout + done.stderr
        assert name in done.stderr, done.stderr
        assert "not a regular file" in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["plan.json", "run.json"])
def test_a8_a_number_of_over_64_bits_is_no_bug(tmp_path: Path, name: str) -> None:
    run = failed(tmp_path / "p")
    path = run / ".sflow" / name
    content = json.loads(path.read_bytes())
    content["version" if name == "plan.json" else "pid"] = 10**30
    path.write_text(json.dumps(content))
    done = sflow_ctl("run", "--resume", "r", cwd=tmp_path / "p")
    assert done.returncode in (0, 2, 3), done.stdout + done.stderr
    assert "bug" not in done.stderr, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_r9_a_summary_is_written_although_the_output_is_not_read(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Standard output is a FIFO that is held open and never read; the signal comes when all tasks have ended."""
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: [seq 1 200000]}]}\n'
    )
    os.mkfifo(tmp_path / "out")
    reader = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "out", os.O_WRONLY)
    process = subprocess.Popen(
        command("run", "w.yaml", "--run-id", "r"),
        cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        journal = tmp_path / "sflow_output/r/.sflow/events.jsonl"
        wait_until(lambda: journal.exists() and b'"new":"completed"' in journal.read_bytes(), "a completed")
        process.send_signal(number)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)
    assert (tmp_path / "sflow_output/r/.sflow/summary.json").exists()


def test_r2_a_project_that_was_moved_as_a_whole_is_the_same_run(tmp_path: Path) -> None:
    failed(tmp_path / "p")
    shutil.move(tmp_path / "p", tmp_path / "q")
    done = sflow_ctl("run", "--resume", "r", cwd=tmp_path / "q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kept: a" in done.stderr, done.stderr
    assert (tmp_path / "q" / "a.count").read_text() == "a\n"
    assert not (tmp_path / "p").exists()


FILES = ("run.json", "plan.json", "summary.json", "controller.lock", "connection.json", "events.jsonl")


@pytest.mark.parametrize("name", FILES)
def test_s5_a_file_of_a_run_that_is_nested_without_end_is_no_bug(tmp_path: Path, name: str) -> None:
    """In a field that the reader does not know, which it skips."""
    run = failed(tmp_path / "p")
    path = run / ".sflow" / name
    whole = path.read_bytes().rstrip() if path.exists() else b'{"run_id":"r"}'
    assert whole.endswith(b"}")
    path.write_bytes(whole[:-1] + b',"unknown":' + b"[" * 50_000 + b"]" * 50_000 + b"}\n")
    path.chmod(0o600)
    for arguments in (("status", "r"), ("run", "--resume", "r")):
        done = sflow_ctl(*arguments, cwd=tmp_path / "p")
        assert done.returncode in (0, 2, 3), done.stdout + done.stderr
        assert "bug" not in done.stderr, done.stderr
