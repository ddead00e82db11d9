"""The record of a run on disk: owners of files, a full disk, permissions."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.errors import RunDirectoryError
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.record.directory import RunDirectory
from sflow_ctl.runtime.record.durable import create_durably, sync_together, write_durably
from tests.support import Run, sflow_ctl
from tests.unit.ctl_output.test_summary_log import FACTS

OURS = ("workflow.yaml", "plan.json", "run.json", "events.jsonl", "summary.json", "results.csv", "nodes.json")


def workflow(*tasks: str) -> str:
    listed = "\n".join(f"    - {task}" for task in tasks)
    return f'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n{listed}\n'


def run_file(tmp_path: Path, text: str, *options: str) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "w.yaml").write_text(text)
    return sflow_ctl("run", "w.yaml", "--output-dir", "out", "--run-id", "r", *options, cwd=tmp_path)


def test_clusters_f6_a_task_may_have_files_of_any_name_in_the_run_directory(tmp_path: Path) -> None:
    names = (*OURS, "connection.json", "controller.lock", "metrics", "report.html")
    write = "; ".join(f"echo mine > $SFLOW_WORKFLOW_OUTPUT_DIR/{name}" for name in names)
    done = run_file(tmp_path, workflow(f'{{name: t, script: ["{write}"]}}'))
    assert done.returncode == 0, done.stderr
    run = tmp_path / "out" / "r"
    assert {(run / name).read_text() for name in names} == {"mine\n"}
    assert sorted(path.name for path in run.iterdir()) == sorted(
        (*names, ".sflow", "sflow.log", "sflow_summary.log", "t")
    )
    shown = sflow_ctl("status", "r", "--output-dir", "out", cwd=tmp_path)
    assert shown.returncode == 0
    assert "completed" in shown.stdout


def test_s6_files_of_ours_are_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o000)
    try:
        done = run_file(tmp_path, workflow('{name: t, script: ["echo x"]}'))
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "out" / "r"
    ours = [
        run,
        run / ".sflow",
        *(run / ".sflow").iterdir(),
        run / "sflow.log",
        run / "sflow_summary.log",
        run / "t",
    ]
    modes = {str(path.relative_to(run)): stat.S_IMODE(path.stat().st_mode) for path in ours}
    assert modes == {name: 0o700 if (run / name).is_dir() else 0o600 for name in modes}


@pytest.mark.parametrize("write", [write_durably, create_durably])
@pytest.mark.parametrize("call", ["write", "fsync", "close"])
def test_r5_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: object, call: str
) -> None:
    file = tmp_path / "plan.json"
    if write is write_durably:
        file.write_bytes(b"old")
    real_close = os.close

    def full(descriptor: int, *_: object) -> int:
        if call == "close":
            real_close(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            write(file, b"new content")  # type: ignore[operator]
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == ({"plan.json": b"old"} if write is write_durably else {})


def test_r5_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:3])))
    write_durably(tmp_path / "file", b"0123456789")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_r8_contents_and_names_are_synced_before_a_file_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        calls.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    write_durably(tmp_path / "file", b"x")
    assert calls == ["file", "rename", "directory"]


@pytest.mark.parametrize("has_threads", [True, False])
def test_r8_a_new_directory_is_synced_with_all_its_files_at_once(
    has_threads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    both_wait = threading.Barrier(2, timeout=20)

    def fsync(descriptor: int) -> None:
        if has_threads:
            both_wait.wait()
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setattr(os, "fsync", fsync)
    if not has_threads:
        monkeypatch.setattr(threading.Thread, "start", refuse)
    sync_together([tmp_path / "file"], [tmp_path])
    assert sorted(synced) == sorted(["file", tmp_path.name])


def test_r8_a_file_that_cannot_be_synced_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error") as caught:
        sync_together([tmp_path / "file"], [tmp_path])
    assert caught.value.filename == str(tmp_path / "file")
    sync_together([], [tmp_path])  # some network file systems cannot sync directories


def test_only_one_of_two_can_create_a_file(tmp_path: Path) -> None:
    create_durably(tmp_path / "claim", b"first")
    with pytest.raises(FileExistsError):
        create_durably(tmp_path / "claim", b"second")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"first"]


def test_r30_the_directory_that_another_run_is_making_is_not_deleted(tmp_path: Path) -> None:
    building = tmp_path / "out" / ".r.building"
    building.mkdir(parents=True)
    (building / "keep").write_text("theirs")
    done = run_file(tmp_path, workflow('{name: t, script: ["echo x"]}'))
    assert done.returncode == 0, done.stderr
    assert (building / "keep").read_text() == "theirs"
    assert sorted(path.name for path in building.parent.iterdir()) == [".r.building", "r"]


def test_of_two_runs_that_make_one_directory_the_first_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that was cut off leaves its part behind, which says nothing about whether it is still under way."""
    (tmp_path / "out" / ".r.building").mkdir(parents=True)
    made = RunDirectory(tmp_path / "out", "r")

    def first(_: Sequence[Path], __: Sequence[Path]) -> None:
        (tmp_path / "out" / "r").mkdir()
        (tmp_path / "out" / "r" / "plan").write_text("theirs")

    monkeypatch.setattr("sflow_ctl.runtime.record.directory.sync_together", first)
    with pytest.raises(RunDirectoryError, match="exists already"):
        made.create(Plan(workflow="w", nodes=(), tasks=()), "", FACTS, "nonce")
    assert (tmp_path / "out" / "r" / "plan").read_text() == "theirs"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".r.building", "r"]


@pytest.mark.parametrize("consumer", ["head -1", "true"])
def test_r35_a_reader_that_leaves_does_not_change_the_exit_status(tmp_path: Path, consumer: str) -> None:
    (tmp_path / "w.yaml").write_text(workflow('{name: t, script: ["seq 1 20000"]}'))
    run = f"{sys.executable} -m sflow_ctl run w.yaml --output-dir out --run-id r"
    script = f"{run} | {consumer} >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ux_7_a_full_standard_output_is_not_reported_as_a_bug(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(workflow('{name: t, script: ["true"]}'))
    run = f"{sys.executable} -m sflow_ctl run w.yaml --output-dir out --run-id r > /dev/full"
    done = subprocess.run(["bash", "-c", run], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert "bug" not in done.stderr


COMMANDS = (
    "run w.yaml --output-dir out", "plan w.yaml", "status r --output-dir out", "logs --run r --output-dir out",
    "attach r --output-dir out", "help run", "sample", "compose w.yaml", "visualize w.yaml", "schema", "--help",
)  # fmt: skip


@pytest.fixture(scope="module")
def ended_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ended")
    assert run_file(directory, workflow('{name: t, script: ["seq 5"]}')).returncode == 0
    return directory


@pytest.mark.parametrize("buffering", ["", "1"])
@pytest.mark.parametrize("command", COMMANDS)
def test_ux_7_a_command_says_that_its_output_is_full_and_bears_closed_ones(
    ended_run: Path, command: str, buffering: str
) -> None:
    def shell(redirection: str) -> "subprocess.CompletedProcess[str]":
        script = f"{sys.executable} -m sflow_ctl {command} {redirection}"
        env = {**os.environ, "PYTHONUNBUFFERED": buffering}
        return subprocess.run(
            ["bash", "-c", script], cwd=ended_run, capture_output=True, text=True, check=False, env=env
        )

    full = shell("> /dev/full")
    assert (full.returncode, full.stderr.count("No space left on device")) == (3, 1)
    assert "bug" not in full.stderr
    closed = shell(">&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    assert shell("<&- >&- 2>&-").returncode == 0
    assert shell("| true; exit ${PIPESTATUS[0]}").returncode == 0


def test_a_hangup_is_called_a_hangup(tmp_path: Path) -> None:
    run = Run.start(workflow('{name: t, script: ["sleep 600"]}'), tmp_path)
    run.wait_for("t", "running")
    os.kill(run.process.pid, signal.SIGHUP)
    status, output = run.finish()
    assert status == 129
    assert "stopped by SIGHUP" in output
    assert run.summary().exit_status == 129


def test_clusters_f14_a_run_whose_directory_was_deleted_reports_it_and_fails(tmp_path: Path) -> None:
    text = workflow('{name: t, script: ["rm -rf $SFLOW_WORKFLOW_OUTPUT_DIR"]}')
    done = run_file(tmp_path, text)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the run failed: the run directory was deleted, with its record" in done.stdout + done.stderr
    assert "nodes were lost" not in done.stdout + done.stderr
    assert "bug" not in done.stdout + done.stderr
    assert "--resume" not in done.stdout + done.stderr, "there is nothing to resume"
    assert "(deleted)" in done.stdout


def test_clusters_f14_a_run_whose_directory_was_deleted_does_not_wait_for_its_logs(tmp_path: Path) -> None:
    """The console has a part of a log whose rest is gone."""
    beats = "script: ['echo up; while :; do echo beat; sleep 0.1; done']"
    server = f"{{name: s, probes: {{readiness: {{log_watch: {{match_pattern: up}}}}}}, {beats}}}"
    last = '{name: t, depends_on: [s], script: ["sleep 0.5; rm -rf $SFLOW_WORKFLOW_OUTPUT_DIR"]}'
    began = time.monotonic()
    done = run_file(tmp_path, workflow(server, last))
    assert done.returncode == 3, done.stdout + done.stderr
    assert time.monotonic() - began < 15, "an agent waits for 30 s until its logs are delivered"
