"""`bundle`: what is in the archive, and which values are not."""

import signal
import stat
import tarfile
from pathlib import Path

import pytest

from sflow_ctl.runtime.catalog.bundle import MAX_LOGS, Bundle, add_logs, without_secrets
from tests.support import Run, sflow_ctl, wait_until

SECRET = "correct-horse-battery"
WORKFLOW = f"""version: "0.1"
secrets: [HF_TOKEN]
variables: {{HF_TOKEN: {SECRET}, MY_API_KEY: sesame-open-now}}
workflow:
  name: w
  tasks:
    - name: a
      script: ["echo MY_API_KEY=$MY_API_KEY; echo see postgres://joe:pa55word@db/x; exit 3"]
"""


def contents(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.split("/", 1)[1]] = file.read().decode()
        return found


def test_an_ended_run_with_its_causes_and_without_secrets(tmp_path: Path) -> None:
    run = Run.start(WORKFLOW, tmp_path)
    assert run.finish()[0] == 1
    done = sflow_ctl("bundle", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), "directories of ours are not said to be missing"
    target = tmp_path / "sflow-bundle-r.tar.gz"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    files = contents(target)
    assert {
        ".sflow/plan.json",
        ".sflow/events.jsonl",
        ".sflow/nodes.json",
        ".sflow/summary.json",
        "a/a.log",
    } <= set(files)
    assert {"about.txt", "explain.txt", "sflow.log"} <= set(files)
    assert not [name for name in files if "connection" in name or "nonce" in name]
    assert "first cause: task a failed: exit status 3" in files["explain.txt"]
    assert "sflow-ctl " in files["about.txt"]
    assert "msgspec" in files["about.txt"]
    whole = "\n".join(files.values())
    for value in (SECRET, "pa55word", "sesame-open-now"):
        assert value not in whole, value
    again = sflow_ctl("bundle", cwd=tmp_path)
    assert again.returncode == 2
    assert "error[file-exists]" in again.stderr


def test_live_and_killed_runs_can_be_packed(killed: Run, tmp_path: Path) -> None:
    assert sflow_ctl("bundle", "live", "-o", "b.tgz", cwd=tmp_path).returncode == 0
    files = contents(tmp_path / "b.tgz")
    assert files["explain.txt"].startswith("live died: controller pid")
    assert files["bad/bad.log"] == "oops\n"


def test_a_run_that_cannot_be_read_is_packed_as_it_is(ended: Run, tmp_path: Path) -> None:
    (ended.directory / ".sflow/plan.json").write_text("{")
    (ended.directory / ".sflow/summary.json").unlink()
    done = sflow_ctl("bundle", "ended", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = contents(tmp_path / "sflow-bundle-ended.tar.gz")
    assert "the run cannot be read" in files["explain.txt"]
    assert files["bad/bad.log"] == "oops\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HF_TOKEN=abcdefgh x", "HF_TOKEN=*** x"),
        ('{"api_key": "abcdefgh"}', '{"api_key": "***"}'),
        ("password: hunter22", "password: ***"),
        ("https://joe:secret@host/x", "https://***@host/x"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ***"),
        ("use hf_abcdefghijklmnopqrst now", "use *** now"),
        ("max_tokens: 4096, tokenizer=gpt2", "max_tokens: 4096, tokenizer=gpt2"),
        ("http://host:8000/v1", "http://host:8000/v1"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_many_logs_are_cut_and_it_is_said(tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(MAX_LOGS + 5)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.log").write_text("x\n")
    packed = Bundle()
    add_logs(packed, tmp_path, names)
    assert len(packed.files) == MAX_LOGS
    assert packed.problems == ["logs of 5 more tasks are left out"]


def test_keys_of_a_live_run_are_left_out(tmp_path: Path) -> None:
    run = Run.start(WORKFLOW.replace("exit 3", "sleep 600"), tmp_path)
    wait_until((run.directory / ".sflow/operator.json").exists, "the keys are there")
    done = sflow_ctl("bundle", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = set(contents(tmp_path / "sflow-bundle-r.tar.gz"))
    assert ".sflow/run.json" in names
    assert not names & {".sflow/operator.json", ".sflow/connection.json", ".sflow/nonce"}
    run.process.send_signal(signal.SIGTERM)
    run.finish()
