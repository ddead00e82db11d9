"""Whole runs with uploads: real agents, a server that speaks S3, directories, signals, a controller that is killed."""

import json
import os
import signal
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.uploads.conftest import KEYS, Server
from tests.support import Run, is_alive, marked, nothing_left, parent_of, sflow_ctl, wait_until

HEAD = 'version: "0.1"\nstorage:\n'
CASE = """
  - {{name: res, type: s3, bucket: {bucket}, prefix: "runs/7/", endpoint_url: "{url}"}}
workflow:
  name: storage
  upload_all: {{target: res}}
  tasks:
    - name: t
      script: ["echo a > $SFLOW_TASK_OUTPUT_DIR/a.txt"]
      uploads: [{{target: res, from: "${{{{ task.output_dir }}}}/*.txt", to: "x/"}}]
    - name: r
      replicas: {{count: 2}}
      script: ["echo r > $SFLOW_TASK_OUTPUT_DIR/out.txt"]
      uploads: [{{target: res, from: out.txt}}]
"""


def disk(
    path: Path, uploads: str, more: str = "", script: str = "echo a > $SFLOW_TASK_OUTPUT_DIR/a.txt"
) -> str:
    return (
        f"{HEAD}  - {{name: res, type: directory, path: {path}}}\n"
        f"workflow:\n  name: disk\n{more}  tasks:\n"
        f"    - name: t\n      script: [{json.dumps(script)}]\n      uploads: [{uploads}]\n"
    )


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def hanging(mute: socket.socket, on_error: str = "warn", more: str = "") -> str:
    url = f"http://127.0.0.1:{mute.getsockname()[1]}"
    return (
        f'{HEAD}  - {{name: res, type: s3, bucket: b, endpoint_url: "{url}"}}\n'
        "workflow:\n  name: hanging\n  tasks:\n"
        "    - name: t\n      script: ['echo $SFLOW_ATTEMPT >> $SFLOW_TASK_OUTPUT_DIR/a.txt']\n"
        f"{more}      uploads: [{{target: res, from: a.txt, on_error: {on_error}}}]\n"
    )


def uploaders(run: Run) -> list[int]:
    """The uploaders of a run: children of its agents. Runs of other tests have the same marker."""
    found, agents = [], run.agents()
    for pid in marked(run.run_id):
        try:
            is_uploader = b"sflow_agent.uploader" in Path(f"/proc/{pid}/cmdline").read_bytes()
            if is_uploader and parent_of(pid) in agents:
                found.append(pid)
        except OSError:
            continue
    return found


def test_case_24_goes_to_the_bucket(server: Server, tmp_path: Path) -> None:
    bucket = server.bucket("case24")
    run = Run.start(HEAD + CASE.format(bucket=bucket, url=server.url), tmp_path)
    status, output = run.finish()
    assert status == 0, output
    assert server.keys(bucket) == [
        "runs/7/out_r_0.txt",
        "runs/7/out_r_1.txt",
        "runs/7/r.zip",
        "runs/7/x/a.txt",
    ]
    assert "t: uploaded 1 file (2 B) to s3://case24/runs/7/x/a.txt" in output
    assert "upload_all: uploaded 1 file (" in output
    archive = tmp_path / "r.zip"
    archive.write_bytes(server.content(bucket, "runs/7/r.zip"))
    with zipfile.ZipFile(archive) as packed:
        names = set(packed.namelist())
        whole = json.loads(packed.read("r/.sflow/summary.json"))
    assert {"r/t/a.txt", "r/t/t.log", "r/r_0/out.txt", "r/sflow.log", "r/.sflow/events.jsonl"} <= names
    assert "r/.sflow/connection.json" not in names
    assert whole["upload_all"] is None, "the archive cannot know what becomes of it"
    summary = run.summary()
    assert summary.upload_all is not None
    assert summary.upload_all.count == 1
    uploads = {task.name: task.uploads for task in summary.tasks}
    assert uploads["t"] is not None
    assert [(one.path, one.bytes) for one in uploads["t"].files] == [("a.txt", 2)]
    _no_secret_in(run.directory, output)


def _no_secret_in(directory: Path, output: str) -> None:
    secret = KEYS["AWS_SECRET_ACCESS_KEY"]
    assert secret not in output
    for path in directory.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_a_plan_shows_the_keys_and_what_is_missing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "case.yaml").write_text(HEAD + CASE.format(bucket="b", url=server.url))
    shown = sflow_ctl("plan", "case.yaml", cwd=tmp_path).stdout
    assert "/t/*.txt to s3://b/runs/7/x/*.txt" in shown
    assert "  - r_0: out.txt to s3://b/runs/7/out_r_0.txt\n" in shown
    assert "the run directory: as one archive to s3://b/runs/7/storage.zip" in shown
    assert "no-credentials" not in shown
    for name in KEYS:
        monkeypatch.delenv(name)
    assert "no credentials for" in sflow_ctl("plan", "case.yaml", cwd=tmp_path).stdout


def test_a_directory_gets_files_and_the_archive(tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = disk(out, "{target: res, from: '**', to: 'logs/'}", "  upload_all: {target: res, to: all.zip}\n")
    run = Run.start(text, tmp_path)
    status, output = run.finish()
    assert status == 0, output
    assert sorted(path.name for path in (out / "logs").iterdir()) == ["a.txt", "t.log"]
    assert zipfile.is_zipfile(out / "all.zip")
    assert not list(run.directory.rglob("*.part"))


def test_a_node_without_the_run_directory_uploads_its_own_files(tmp_path: Path) -> None:
    """The log is in the spool of the node; the file is where the task wrote it."""
    out = tmp_path / "out"
    (tmp_path / "spool").mkdir()
    text = disk(out, "{target: res, from: a.txt}, {target: res, from: t.log}")
    text = text.replace("echo a >", "mkdir -p $SFLOW_TASK_OUTPUT_DIR; echo a; echo a >")
    run = Run.start(text, tmp_path, "--log-spool", str(tmp_path / "spool"))
    status, output = run.finish()
    assert status == 0, output
    assert sorted(path.name for path in out.iterdir()) == ["a.txt", "t.log"]


def test_what_is_not_there_is_a_warning(tmp_path: Path) -> None:
    run = Run.start(disk(tmp_path / "out", "{target: res, from: '*.pt'}"), tmp_path)
    status, output = run.finish()
    assert status == 0, output
    assert "warning: uploads of t: *.pt: there is no such file" in output
    (task,) = run.summary().tasks
    assert task.uploads is not None
    assert task.uploads.problems == ("*.pt: there is no such file",)


def test_an_upload_that_must_succeed_fails_the_run_without_a_retry(server: Server, tmp_path: Path) -> None:
    text = (
        f'{HEAD}  - {{name: res, type: s3, bucket: not-there, endpoint_url: "{server.url}"}}\n'
        "workflow:\n  name: w\n  tasks:\n"
        "    - name: t\n      retries: {count: 2, interval: 0}\n      script: ['echo a > $SFLOW_TASK_OUTPUT_DIR/a.txt']\n"
        "      uploads: [{target: res, from: a.txt, on_error: fail}]\n"
        "    - {name: after, depends_on: [t], script: ['true']}\n"
    )
    run = Run.start(text, tmp_path)
    status, output = run.finish()
    assert status == 1, output
    assert run.states() == {"t": "failed", "after": "cancelled"}
    summary = run.summary()
    assert summary.tasks[0].attempts == 1
    assert summary.tasks[0].reason_word == "upload"
    assert "the bucket does not exist (NoSuchBucket)" in summary.tasks[0].reason
    assert "task t has completed, and its upload failed" in output


@pytest.mark.parametrize(("on_error", "status"), [("warn", 0), ("fail", 1)])
def test_an_archive_that_cannot_be_uploaded(tmp_path: Path, on_error: str, status: int) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    more = f"  upload_all: {{target: res, on_error: {on_error}}}\n"
    run = Run.start(disk(tmp_path / "out", "", more), tmp_path)
    found, output = run.finish()
    assert found == status, output
    assert "warning: uploads of upload_all: " in output
    assert run.summary().exit_status == status
    assert (run.summary().cause is None) == (status == 0)
    assert not list(run.directory.rglob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_archive_is_uploaded_after_a_signal_and_after_failures(tmp_path: Path, number: int) -> None:
    out = tmp_path / "out"
    text = disk(out, "", "  stop_timeout: 60\n  upload_all: {target: res}\n", "sleep 600")
    run = Run.start(text, tmp_path)
    run.wait_for("t", "running")
    run.process.send_signal(number)
    status, output = run.finish()
    assert status in (130, 143), output
    assert zipfile.is_zipfile(out / "r.zip")
    failed = Run.start(disk(out, "", "  upload_all: {target: res}\n", "exit 3"), tmp_path, run_id="failed")
    assert failed.finish()[0] == 1
    assert zipfile.is_zipfile(out / "failed.zip")


def test_ctrl_c_ends_an_upload(mute: socket.socket, tmp_path: Path) -> None:
    run = Run.start(hanging(mute), tmp_path)
    connection, _ = mute.accept()
    with connection:
        wait_until(lambda: uploaders(run), "the uploader")
        shown = sflow_ctl("status", run.directory, cwd=tmp_path).stdout
        assert "uploading" in shown
        run.process.send_signal(signal.SIGINT)
        status, output = run.finish()
    assert status == 130, output
    assert "t: its uploads are ended: stopped by SIGINT" in output
    assert "a.txt was not uploaded completely" in output
    assert run.states() == {"t": "completed"}
    nothing_left(run)


def test_the_timeout_of_a_task_ends_its_upload(mute: socket.socket, tmp_path: Path) -> None:
    run = Run.start(hanging(mute, "fail", "      timeout: 3\n"), tmp_path)
    connection, _ = mute.accept()
    with connection:
        status, output = run.finish()
    assert status == 1, output
    assert run.states() == {"t": "failed"}
    assert "its uploads are ended: did not end within its timeout of 3 s" in output


def test_a_killed_uploader_is_a_problem(mute: socket.socket, tmp_path: Path) -> None:
    run = Run.start(hanging(mute), tmp_path)
    connection, _ = mute.accept()
    with connection:
        (pid,) = wait_until(lambda: uploaders(run), "the uploader")
        assert os.getpriority(os.PRIO_PROCESS, pid) >= 10
        os.kill(pid, signal.SIGKILL)
        status, output = run.finish()
    assert status == 0, output
    assert "warning: uploads of t: the uploader was killed by SIGKILL" in output


def test_an_upload_that_a_killed_controller_left_is_done_by_a_resume(
    mute: socket.socket, server: Server, tmp_path: Path
) -> None:
    bucket = server.bucket("resumed")
    run = Run.start(hanging(mute), tmp_path)
    connection, _ = mute.accept()
    with connection:
        (pid,) = wait_until(lambda: uploaders(run), "the uploader")
        run.process.kill()
        run.process.wait()
        wait_until(lambda: not is_alive(pid), "no uploader outlives its controller")
    again = hanging(mute).replace(f"127.0.0.1:{mute.getsockname()[1]}", server.url.removeprefix("http://"))
    (tmp_path / "r.yaml").write_text(again.replace("bucket: b,", f"bucket: {bucket},"))
    resumed = sflow_ctl("run", "--resume", run.directory, tmp_path / "r.yaml", cwd=tmp_path)
    run.kill()
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert server.keys(bucket) == ["a.txt"]
    assert server.content(bucket, "a.txt") == b"1\n", "the task has not run again"
    assert "kept: t\nsflow-ctl: files are uploaded now, of: t\n" in resumed.stderr
    task = run.summary().tasks[0]
    assert (task.state.value, task.attempts) == ("completed", 2)
    assert task.uploads is not None
    assert task.uploads.count == 1


def test_the_summary_of_a_resumed_run_has_the_uploads_of_kept_tasks(tmp_path: Path) -> None:
    text = disk(tmp_path / "out", "{target: res, from: a.txt}")
    text += "    - {name: u, depends_on: [t], script: ['[ -e go ]']}\n"
    (tmp_path / "w.yaml").write_text(text)
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 1
    directory = tmp_path / "sflow_output" / "r"
    (directory / ".sflow" / "summary.json").unlink()  # as after a controller that was killed
    (tmp_path / "go").touch()
    resumed = sflow_ctl("run", "--resume", str(directory), "--force", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    summary = json.loads((directory / ".sflow" / "summary.json").read_bytes())
    task = next(one for one in summary["tasks"] if one["name"] == "t")
    assert (task["attempts"], task["uploads"]["count"], task["uploads"]["bytes"]) == (1, 1, 2)
    assert task["uploads"]["files"][0]["address"].endswith("/out/a.txt")
    shown = json.loads(sflow_ctl("status", str(directory), "--json", cwd=tmp_path).stdout)
    assert shown["tasks"][0]["uploads"]["count"] == 1


def test_a_run_without_uploads_imports_no_boto3(tmp_path: Path) -> None:
    """Neither does the controller of one with uploads: the library is in the uploader alone."""
    (tmp_path / "sitecustomize.py").write_text("")
    text = disk(tmp_path / "out", "{target: res, from: a.txt}", "  upload_all: {target: res}\n")
    (tmp_path / "w.yaml").write_text(text)
    seen = sflow_ctl("run", "w.yaml", cwd=tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert seen.returncode == 0, seen.stdout
    assert "sflow_ctl.runtime.uploads.run_archive" in seen.stderr
    assert not [line for line in seen.stderr.splitlines() if "boto" in line or "s3transfer" in line]
