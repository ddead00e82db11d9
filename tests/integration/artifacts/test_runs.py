"""Runs that fetch: what the command line shows, interrupts, and runs that want the same thing at the same time."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.artifacts.fetching import cached, parts
from tests.integration.artifacts.file_server import FileServer, Page
from tests.support import command, lines_with, sflow_ctl, wait_until

CONTENT = bytes(range(256)) * 8000


def workflow(folder: Path, artifacts: str, script: str = "cmp $M $EXPECTED && echo same") -> Path:
    """One task that looks at `M`."""
    (folder / "expected").write_bytes(CONTENT)
    file = folder / "w.yaml"
    file.write_text(
        f'version: "0.1"\nartifacts:\n  EXPECTED: {{uri: fs://expected}}\n{artifacts}\n'
        f'workflow: {{name: w, tasks: [{{name: look, script: ["{script}"]}}]}}\n'
    )
    return file


def start(file: Path, run_id: str) -> subprocess.Popen[str]:
    """Start a run in the background."""
    return subprocess.Popen(
        command("run", file, "--run-id", run_id),
        cwd=file.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit status and the output."""
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_a_task_finds_fetched_files(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m.bin", Page(CONTENT))
    file = workflow(tmp_path, f"  M: {{uri: '{uri}'}}\n  D: {{uri: fs://made/here, create: true}}")
    done = sflow_ctl("run", file, "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fetching 1 artifact: M\n" in done.stdout
    assert f"✓ artifact M: 2.0 MB from {uri} in " in done.stdout
    assert "[look] same" in done.stdout
    log = (tmp_path / "sflow_output" / "r" / "sflow.log").read_text()
    assert lines_with(log, "artifact M: 2.0 MB from")
    assert (tmp_path / "made" / "here").is_dir()
    again = sflow_ctl("run", file, cwd=tmp_path)
    assert again.returncode == 0
    assert "artifact" not in again.stdout
    assert len(server.seen) == 1


def test_a_dry_run_fetches_and_makes_nothing(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m.bin", Page(CONTENT))
    file = workflow(
        tmp_path, f"  M: {{uri: '{uri}'}}\n  D: {{uri: fs://made, create: true}}\n  H: {{uri: 'hf://a/b'}}"
    )
    before = sorted(tmp_path.iterdir())
    done = sflow_ctl("run", "--dry-run", file, cwd=tmp_path)
    assert done.returncode == 0
    assert f"  - M: {uri}\n  - H: hf://a/b\n" in done.stdout
    assert sorted(tmp_path.iterdir()) == before
    assert server.seen == []


def test_a_failure_is_reported_before_anything_is_made(server: FileServer, tmp_path: Path) -> None:
    file = workflow(tmp_path, f"  M: {{uri: '{server.url}/gone'}}")
    done = sflow_ctl("run", file, cwd=tmp_path)
    assert done.returncode == 3
    assert f'error[artifact-not-fetched]: Failed to download artifact "M": {server.url}/gone: ' in done.stderr
    assert "404 Not Found" in done.stderr
    assert "w.yaml:4:12" in done.stderr
    assert "hint:" in done.stderr
    assert not (tmp_path / "sflow_output").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_keeps_received_bytes_for_the_next_run(
    number: signal.Signals, status: int, server: FileServer, tmp_path: Path
) -> None:
    page = Page(CONTENT, stall_after=1_000_000)
    file = workflow(tmp_path, f"  M: {{uri: '{server.add('/m', page)}'}}")
    process = start(file, "r")
    wait_until(lambda: [p for p in parts(tmp_path) if p.stat().st_size > 500_000], "half of it")
    os.kill(process.pid, number)
    assert finished(process)[0] == status
    (part,) = parts(tmp_path)
    kept = part.stat().st_size
    assert cached(tmp_path) == []
    assert "~" not in part.name
    assert kept > 500_000
    page.go_on.set()
    code, output = finished(start(file, "r2"))
    assert code == 0
    assert "kept from before" in output
    assert "[look] same" in output
    assert server.ranges() == [None, f"bytes={kept}-"]


def test_a_killed_run_leaves_nothing_that_counts(server: FileServer, tmp_path: Path) -> None:
    page = Page(CONTENT, stall_after=1_000_000)
    file = workflow(tmp_path, f"  M: {{uri: '{server.add('/m', page)}'}}")
    process = start(file, "r")
    wait_until(lambda: [p for p in parts(tmp_path) if p.stat().st_size > 0], "some of it")
    process.kill()
    finished(process)
    assert cached(tmp_path) == []
    page.go_on.set()
    assert finished(start(file, "r2"))[0] == 0


def test_two_runs_that_fetch_the_same_do_each_other_no_harm(server: FileServer, tmp_path: Path) -> None:
    page = Page(CONTENT, stall_after=1_000_000)
    file = workflow(tmp_path, f"  M: {{uri: '{server.add('/m', page)}'}}")
    runs = [start(file, f"r{number}") for number in range(2)]
    wait_until(lambda: len(parts(tmp_path)) == 2, "both have a part of their own")
    page.go_on.set()
    ends = [finished(run) for run in runs]
    assert [(code, "[look] same" in output) for code, output in ends] == [(0, True)] * 2, ends
    assert parts(tmp_path) == []
    assert len(cached(tmp_path)) == 1
