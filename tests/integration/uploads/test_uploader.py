"""The uploader as a program, against a server that speaks S3 and against directories."""

import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol.messages.uploads import (
    FileUpload,
    StorageTarget,
    UploadEnd,
    UploadJob,
    UploadLine,
    UploadOutcome,
)
from tests.integration.uploads.conftest import KEYS, Server

PROGRAM = (sys.executable, "-I", "-X", "utf8", "-m", "sflow_agent.uploader")


def begin(job: UploadJob) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(job))
    process.stdin.close()
    return process


def result(process: "subprocess.Popen[bytes]") -> UploadOutcome:
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = process.stdout.read().splitlines()
        assert process.wait(60) == 0, process.stderr.read().decode()
    last: UploadLine = msgspec.json.decode(lines[-1], type=UploadLine)
    assert isinstance(last, UploadEnd)
    return last.outcome


def upload(directory: Path, target: StorageTarget, *files: FileUpload) -> UploadOutcome:
    return result(begin(UploadJob(directories=(str(directory),), files=files, targets=(target,))))


def one(pattern: str, **options: Any) -> FileUpload:
    return FileUpload(target="res", pattern=pattern, **options)


def target(server: Server, bucket: str, **options: Any) -> StorageTarget:
    return StorageTarget(name="res", type="s3", bucket=bucket, endpoint_url=server.url, **options)


def copies(path: Path, **options: Any) -> StorageTarget:
    return StorageTarget(name="res", type="directory", path=str(path), **options)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A task's directory."""
    directory = tmp_path / "run[1]" / "t"
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "a.txt").write_text("a")
    (directory / "b.txt").write_text("bb")
    (directory / ".hidden.txt").write_text("h")
    (directory / "deep" / "er" / "c.txt").write_text("ccc")
    (directory / "deep" / "loop").symlink_to(directory)
    os.mkfifo(directory / "pipe.txt")
    return directory


def test_files_go_to_their_keys(server: Server, work: Path) -> None:
    bucket = server.bucket("files")
    outcome = upload(
        work,
        target(server, bucket, prefix="runs/7"),
        one("a.txt"),
        one(f"{work}/b.txt", to="x/"),
        one("a.txt", to="y/z.csv", label="r_0"),
    )
    assert outcome.problems == ()
    assert server.keys(bucket) == ["runs/7/a.txt", "runs/7/x/b.txt", "runs/7/y/z_r_0.csv"]
    assert server.content(bucket, "runs/7/x/b.txt") == b"bb"
    assert [file.path for file in outcome.files] == ["a.txt", "b.txt", "a.txt"]
    assert (outcome.count, outcome.bytes) == (3, 4)
    assert outcome.files[1].address == "s3://files/runs/7/x/b.txt"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "deep/er/c.txt"]),
        ("**", ["a.txt", "b.txt", "deep/er/c.txt"]),
        ("deep/**", ["deep/er/c.txt"]),
        ("[ab].txt", ["a.txt", "b.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        (".*.txt", [".hidden.txt"]),
        ("dee*/er/c.txt", ["deep/er/c.txt"]),
        ("a.txt", ["a.txt"]),
    ],
)
def test_patterns_match_regular_files_as_in_a_shell(work: Path, pattern: str, names: list[str]) -> None:
    """Not hidden files, not pipes, no way through a loop of links; brackets in the run's own path are none."""
    for written in (pattern, f"{work}/{pattern}"):
        outcome = upload(work, copies(work.parent.parent / "out"), one(written))
        assert [file.path for file in outcome.files] == names
        assert outcome.problems == ()


def test_of_two_files_with_one_key_the_second_is_a_problem(work: Path, tmp_path: Path) -> None:
    (work / "deep" / "a.txt").write_text("other")
    outcome = upload(work, copies(tmp_path / "out"), one("**/a.txt", on_error="fail"))
    assert (tmp_path / "out" / "a.txt").read_text() == "a"
    (problem,) = outcome.problems
    assert problem.is_failure
    assert "deep/a.txt has the same name as" in problem.text


def test_a_pattern_without_a_file_is_a_problem(work: Path, tmp_path: Path) -> None:
    outcome = upload(work, copies(tmp_path / "out"), one("a.txt"), one("*.pt"), one("no", on_error="fail"))
    assert outcome.count == 1
    assert [(p.text, p.missing, p.is_failure) for p in outcome.problems] == [
        ("no: there is no such file", 2, True),
        ("*.pt: there is no such file", 1, False),
    ]


def test_several_files_do_not_become_one(work: Path, tmp_path: Path) -> None:
    outcome = upload(work, copies(tmp_path / "out"), one("*.txt", to="all"))
    assert outcome.count == 0
    assert 'which cannot all be "all"' in outcome.problems[0].text


def test_two_dots_are_refused(work: Path, tmp_path: Path) -> None:
    outcome = upload(work, copies(tmp_path / "out"), one("a.txt", to="../b.txt"))
    assert outcome.count == 0
    assert ".." in outcome.problems[0].text
    assert not (tmp_path / "b.txt").exists()


def test_a_large_file_is_sent_in_parts(server: Server, work: Path) -> None:
    bucket = server.bucket("large")
    content = os.urandom(1 << 20) * 40
    (work / "large.bin").write_bytes(content)
    outcome = upload(work, target(server, bucket, storage_class="STANDARD_IA"), one("large.bin"))
    assert outcome.problems == ()
    assert server.content(bucket, "large.bin") == content
    head = server.client.head_object(Bucket=bucket, Key="large.bin")
    assert head["ETag"].strip('"').endswith("-3"), "three parts of 16 MiB at most"
    assert head["StorageClass"] == "STANDARD_IA"


def test_a_bucket_that_does_not_exist_is_tried_once(server: Server, work: Path) -> None:
    outcome = upload(work, target(server, "nowhere"), one("**/*.txt", on_error="fail"))
    assert outcome.count == 0
    first, rest = outcome.problems
    assert "bucket nowhere" in first.text
    assert "does not exist (NoSuchBucket)" in first.text
    assert "so 2 further files not uploaded" in rest.text
    assert first.is_failure
    assert rest.is_failure


def test_a_wrong_key_is_said_once(strict_server: Server, work: Path) -> None:
    outcome = upload(work, target(strict_server, "guarded"), one("**/*.txt"))
    assert outcome.count == 0
    assert len(outcome.problems) == 2
    assert "the server does not know this access key (InvalidAccessKeyId)" in outcome.problems[0].text
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in str(outcome)


def test_a_server_that_is_down_is_said(work: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        down = StorageTarget(name="res", type="s3", bucket="b", endpoint_url=url)
        outcome = upload(work, down, one("a.txt"))
    (problem,) = outcome.problems
    assert f'Could not connect to the endpoint URL: "{url}/b/a.txt"' in problem.text


def test_without_credentials_it_says_what_to_set(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    outcome = upload(work, StorageTarget(name="res", type="s3", bucket="b"), one("a.txt"))
    assert "no credentials on this node: set AWS_ACCESS_KEY_ID" in outcome.problems[0].text


def test_without_boto3_it_says_what_to_install(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; sys.modules['boto3'] = None; from sflow_agent.uploader.__main__ import main; main()"
    monkeypatch.setattr(f"{__name__}.PROGRAM", (sys.executable, "-I", "-c", code))
    outcome = upload(work, StorageTarget(name="res", type="s3", bucket="b"), one("a.txt"))
    assert "pip install 'sflow-ctl[s3]'" in outcome.problems[0].text
    assert upload(work, copies(tmp_path / "out"), one("a.txt")).count == 1, "a directory needs no boto3"


def test_copies_are_whole_or_not_there(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o750)
    (out / "x").mkdir(parents=True)
    (out / "x" / "run.sh").write_text("old")
    outcome = upload(work, copies(out, prefix="x"), one("run.sh"))
    assert (out / "x" / "run.sh").read_text() == "#!/bin/sh\n"
    assert (out / "x" / "run.sh").stat().st_mode & 0o777 == 0o750
    assert [path.name for path in (out / "x").iterdir()] == ["run.sh"], "no part is left"
    assert outcome.files[0].address == str(out / "x" / "run.sh")


def test_a_directory_that_cannot_be_written_is_a_problem(work: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = upload(work, copies(tmp_path / "file"), one("a.txt"))
    assert outcome.count == 0
    assert str(tmp_path / "file") in outcome.problems[0].text


def test_sigterm_ends_it_and_it_says_what_is_left(work: Path) -> None:
    """The server accepts a connection and never answers; nothing has to wait for that."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        store = StorageTarget(name="res", type="s3", bucket="b", endpoint_url=url)
        job = UploadJob(
            directories=(str(work),), files=(one("a.txt"), one("b.txt", on_error="fail")), targets=(store,)
        )
        process = begin(job)
        mute.settimeout(30)
        connection, _ = mute.accept()
        with connection:
            process.send_signal(signal.SIGTERM)
            outcome = result(process)
    assert outcome.count == 0
    texts = [problem.text for problem in outcome.problems]
    assert texts == ["1 file not uploaded", "a.txt was not uploaded completely"]
    assert outcome.problems[0].is_failure


def test_a_run_directory_becomes_one_archive(work: Path, tmp_path: Path) -> None:
    run = work.parent
    (run / ".sflow").mkdir()
    for name in ("connection.json", "nonce", "plan.json"):
        (run / ".sflow" / name).write_text(name)
    (run / "empty").mkdir()
    (work / "run.sh").write_text("x")
    (work / "run.sh").chmod(0o755)
    os.utime(work / "run.sh", (0, 0))
    job = UploadJob(
        files=(one("", to="all.zip"),),
        targets=(copies(tmp_path / "out"),),
        archive=str(run),
        scratch=str(run / ".sflow"),
    )
    outcome = result(begin(job))
    assert outcome.problems == ()
    with zipfile.ZipFile(tmp_path / "out" / "all.zip") as packed:
        names = packed.namelist()
        assert packed.testzip() is None
        assert packed.read("run[1]/t/deep/er/c.txt") == b"ccc"
        assert packed.getinfo("run[1]/t/run.sh").external_attr >> 16 & 0o777 == 0o755
        assert packed.read("run[1]/t/deep/loop") == str(work).encode(), "a link stays a link"
    assert "run[1]/empty/" in names
    assert "run[1]/.sflow/plan.json" in names
    assert not [name for name in names if "connection" in name or "nonce" in name or "pipe" in name]
    assert not list((run / ".sflow").glob("*.part"))


def test_an_archive_that_finds_no_room_is_a_problem(work: Path, tmp_path: Path) -> None:
    job = UploadJob(
        files=(one("", on_error="fail"),),
        targets=(copies(tmp_path / "out"),),
        archive=str(work),
        scratch=str(tmp_path / "missing"),
    )
    (problem,) = result(begin(job)).problems
    assert problem.is_failure
    assert "cannot be written: No such file or directory" in problem.text


def test_no_secret_is_in_what_it_prints(server: Server, work: Path) -> None:
    process = begin(
        UploadJob(
            directories=(str(work),), files=(one("a.txt"),), targets=(target(server, "not-there-either"),)
        )
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        printed = process.stdout.read() + process.stderr.read()
    assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in printed
    assert b"NoSuchBucket" in printed
