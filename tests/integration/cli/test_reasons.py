"""Causes of failures as users see them: on the console, in the files, and by `status`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support import command, sflow_ctl

HEAD = 'version: "0.1"\nworkflow:\n  name: w\n'


def run(tmp_path: Path, text: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, output, and the summary of a workflow."""
    (tmp_path / "w.yaml").write_text(text)
    ended = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    summary = msgspec.json.decode((tmp_path / "sflow_output" / "r" / ".sflow/summary.json").read_bytes())
    return ended.returncode, ended.stdout + ended.stderr, summary


def test_f20_a_port_in_use_is_reported_everywhere(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"exec {sys.executable} -m http.server {port} --bind 127.0.0.1"
        status, output, summary = run(tmp_path, HEAD + f"  tasks: [{{name: a, script: ['{script}']}}]\n")
    sentence = f"port {port} was in use by process {os.getpid()} "
    assert status == 1
    assert f"a failed (port_in_use): {sentence}" in output
    assert "\n  why:   port_in_use\n  line:  " in output
    assert "\n  hint:  end the process" in output
    (task,) = summary["tasks"]
    assert task["reason_word"] == "port_in_use"
    assert sentence in task["reason"]
    assert task["line"].endswith("Address already in use")
    assert summary["cause"]["reason"]["word"] == "port_in_use"
    journal = (tmp_path / "sflow_output" / "r" / ".sflow/events.jsonl").read_text()
    assert '"word":"port_in_use"' in journal
    later = sflow_ctl("status", "r", cwd=tmp_path).stdout
    assert "port_in_use" in later
    assert later.count(sentence) == 1


def test_a_traceback_with_status_0_is_a_failure_only_if_it_is_forbidden(tmp_path: Path) -> None:
    task = "{name: a, script: ['echo \"Traceback (most recent call last):\"']%s}"
    status, output, _ = run(tmp_path, HEAD + f"  tasks: [{task % ''}]\n")
    assert status == 0, output
    (tmp_path / "sflow_output").rename(tmp_path / "before")
    forbidding = task % ", success: {forbid: [Traceback]}"
    status, output, summary = run(tmp_path, HEAD + f"  tasks: [{forbidding}]\n")
    assert status == 1
    assert summary["tasks"][0]["reason_word"] == "success"
    assert "a failed (success): its log has a line that `Traceback` forbids" in output


def test_dependants_do_not_start_if_a_required_file_is_missing(tmp_path: Path) -> None:
    tasks = """  tasks:
    - {name: a, script: ["true"], success: {files: [result.json]}}
    - {name: b, script: [echo started], depends_on: [a]}
"""
    status, output, summary = run(tmp_path, HEAD + tasks)
    assert status == 1
    assert "started" not in output
    assert [task["state"] for task in summary["tasks"]] == ["failed", "cancelled"]
    assert [task["reason_word"] for task in summary["tasks"]] == ["no_output", "fail_fast"]


def test_a_condition_may_use_the_outputs_of_an_earlier_task(tmp_path: Path) -> None:
    tasks = """  tasks:
    - {name: a, script: ["echo rate = %d"], outputs: [{pattern: "rate = {rate:d}"}]}
    - name: b
      depends_on: [a]
      script: ['echo "{\\"rate\\": 5}" > $SFLOW_TASK_OUTPUT_DIR/r.json']
      success: {json: {path: r.json, where: "rate > ${{ task.a.outputs.rate }}"}}
"""
    assert run(tmp_path, HEAD + tasks % 4)[0] == 0
    (tmp_path / "sflow_output").rename(tmp_path / "before")
    status, output, _ = run(tmp_path, HEAD + tasks % 5)
    assert status == 1
    assert "does not fulfil `rate > 5`: rate is 5" in output


def test_a_workflow_that_produced_nothing_is_not_green(tmp_path: Path) -> None:
    text = HEAD + "  success: {files: ['*/r.json'], forbid: [oops]}\n  tasks: [{name: a, script: ['%s']}]\n"
    status, output, summary = run(tmp_path, text % "true")
    assert status == 1
    assert "the workflow did not fulfil its success conditions: no file matches" in output
    assert (summary["outcome"], summary["cause"]["reason"]["word"]) == ("failed", "no_output")
    (tmp_path / "sflow_output").rename(tmp_path / "1")
    status, output, _ = run(tmp_path, text % "echo oops; echo 1 > $SFLOW_TASK_OUTPUT_DIR/r.json")
    assert status == 1
    assert "forbids: oops" in output
    (tmp_path / "sflow_output").rename(tmp_path / "2")
    assert run(tmp_path, text % "echo 1 > $SFLOW_TASK_OUTPUT_DIR/r.json")[0] == 0


def test_retries_for_a_reason_of_ones_own(tmp_path: Path) -> None:
    text = """
signatures:
  license: {pattern: 'no seat for (?P<who>\\w+)', text: '{who} has no seat'}
"""
    tasks = """  tasks:
    - name: a
      script: ['test $SFLOW_ATTEMPT = 2 || { echo no seat for ann; exit 4; }']
      retries: {count: 3, interval: 0, reasons: [license]}
"""
    status, output, summary = run(tmp_path, HEAD + tasks + text)
    assert status == 0, output
    assert "a retry: ann has no seat (exit status 4); attempt 2 of 4" in output
    assert summary["tasks"][0]["attempts"] == 2


def test_the_rank_that_failed_first_is_shown_with_its_own_log(tmp_path: Path) -> None:
    text = """version: "0.1"
backends: {pool: {type: slurm, account: a, partition: p, time: 10, nodes: 2, gpus_per_node: 1}}
operators: {both: {type: srun, kill_on_bad_exit: true}}
workflow:
  name: w
  tasks:
    - name: a
      operator: both
      resources: {nodes: {count: 2}}
      script:
        - 'if [ $SFLOW_RANK = 1 ]; then echo "x: No space left on device"; exit 9; fi; sleep 600'
"""
    (tmp_path / "w.yaml").write_text(text)
    ended = sflow_ctl("run", "w.yaml", "--nodes", "2", "--run-id", "r", cwd=tmp_path)
    assert ended.returncode == 1
    assert "a failed (disk_full): rank 1: x: No space left on device (exit status 9)" in ended.stdout
    assert "  log:   sflow_output/r/a/a.rank-1.log\n  next:" in ended.stdout  # its only line is quoted above


# ---------------------------------------------------------------------- memory, really


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A cgroup of 150 MiB; skips where none can be made."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    v1 = next((line.split(":", 2)[2] for line in lines if line.split(":")[1] == "memory"), None)
    own = lines[-1].split(":", 2)[2] if v1 is None else v1
    parent = Path("/sys/fs/cgroup" if v1 is None else "/sys/fs/cgroup/memory") / own.lstrip("/")
    directory = parent / f"sflow-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        directory.mkdir()
    except OSError:
        pytest.skip("no cgroup can be made here")
    try:
        limit = directory / ("memory.max" if v1 is None else "memory.limit_in_bytes")
        if not limit.exists():
            pytest.skip("memory is not limited by cgroups here")
        limit.write_text(str(150 << 20))
        yield directory
    finally:
        directory.rmdir()


@pytest.mark.parametrize("goes_on", [False, True])
def test_f43_the_kernel_kills_for_want_of_memory(tmp_path: Path, small_cgroup: Path, goes_on: bool) -> None:
    eat = f"{sys.executable} -c 'x = bytearray(1 << 30)'"
    script = msgspec.json.encode([eat, "true"] if goes_on else [f"exec {eat}"]).decode()
    (tmp_path / "w.yaml").write_text(HEAD + f"  tasks: [{{name: a, script: {script}}}]\n")
    inside = f'echo $$ > {small_cgroup}/cgroup.procs && exec "$@"'
    ended = subprocess.run(
        ("sh", "-c", inside, "sh", *command("run", "w.yaml", "--run-id", "r")),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if goes_on:
        assert ended.returncode == 0, ended
        assert "a#1 ended with status 0, but while it ran the kernel killed 1 process(es)" in ended.stdout
        return
    assert ended.returncode == 1
    expected = (
        "a failed (oom): out of memory: the kernel killed it; the limit here is 150.0 MiB (killed by SIGKILL)"
    )
    assert expected in ended.stdout
