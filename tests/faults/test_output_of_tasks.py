"""What programs do to their output: buffer, flood, break, mix it, or write it in a locale without characters.

The log equals the written bytes, and no other task waits.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import Run, command, lines_with, nothing_left, sflow_ctl, wait_until

HEAD = 'version: "0.1"\nworkflow:\n  name: output\n  tasks:\n'
SPOOLED = ("--log-spool", "spool")
MEMORY_BYTES = 120 << 20
"""Of an agent or a controller, far more than they need: what counts is that it does not grow with the output."""


def program(tmp_path: Path, name: str, text: str) -> str:
    """A Python program as a script line."""
    (tmp_path / name).write_text(text)
    return f"exec {sys.executable} -S {tmp_path / name}"


# ---------------------------------------------------------------------- F59: output that is kept back

SAYS_UP = "print('server is up')\nimport time\ntime.sleep(600)\n"


def test_f59_a_line_of_a_python_program_is_seen_when_it_is_printed(tmp_path: Path) -> None:
    server = program(tmp_path, "server.py", SAYS_UP)
    tasks = f"""
    - name: server
      script: ["{server}"]
      probes: {{readiness: {{log_watch: {{match_pattern: server is up}}}}}}
    - {{name: client, depends_on: [server], script: ["true"]}}
"""
    ended = sflow_ctl("run", workflow(tmp_path, tasks), cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_f59_buffering_can_be_requested(tmp_path: Path) -> None:
    server = program(tmp_path, "server.py", SAYS_UP)
    tasks = f"""
    - name: server
      script: ["{server}"]
      probes: {{readiness: {{log_watch: {{match_pattern: server is up}}, deadline: 2s}}}}
    - {{name: client, depends_on: [server], script: ["true"]}}
"""
    ended = sflow_ctl("run", workflow(tmp_path, tasks), cwd=tmp_path, env={"PYTHONUNBUFFERED": ""})
    assert ended.returncode == 1
    assert lines_with(ended.stdout + ended.stderr, "not ready within its deadline", "is not in the log")


def test_f59_a_program_of_c_is_seen_with_stdbuf(tmp_path: Path) -> None:
    # Its library keeps output to files back, and only it can be told otherwise. This is what the document advises.
    tasks = """
    - name: server
      script: ["(echo server is up; exec sleep 600) | stdbuf -oL tr u u"]
      probes: {readiness: {log_watch: {match_pattern: server is up}}}
    - {name: client, depends_on: [server], script: ["true"]}
"""
    ended = sflow_ctl("run", workflow(tmp_path, tasks), cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def workflow(tmp_path: Path, tasks: str) -> str:
    (tmp_path / "w.yaml").write_text(HEAD + tasks)
    return "w.yaml"


# ---------------------------------------------------------------------- F60: floods and bytes that are no text

BYTES = """
import os, sys
odd = [bytes(range(256)) * 40, b"x" * 10_000_000 + b"\\n", b"\\0" * 5000, b"\\xff\\xfe broken \\xc3", "\u00e9".encode() * 3]
expected = open(sys.argv[1], "wb")
def put(data):
    expected.write(data)
    while data:
        data = data[os.write(1, data):]
for data in odd:
    put(data)
for byte in "split \u20ac \U0001f680\\n".encode():
    put(bytes([byte]))
put(b"no end of line")
"""


@pytest.mark.parametrize("options", [(), SPOOLED], ids=["shared", "spooled"])
def test_f60_the_bytes_on_disk_are_those_that_were_written(tmp_path: Path, options: Sequence[str]) -> None:
    writer = program(tmp_path, "writer.py", BYTES)
    tasks = f'    - {{name: a, script: ["{writer} {tmp_path}/expected"]}}\n'
    ended = subprocess.run(  # its console is bytes: not all of them are text
        command("run", workflow(tmp_path, tasks), "--run-id", "r", *options),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    log = (tmp_path / "sflow_output" / "r" / "a" / "a.log").read_bytes()
    assert log == (tmp_path / "expected").read_bytes()
    assert "split \u20ac \U0001f680\n".encode() in ended.stdout


FLOOD = """
import os, sys
line = b"y" * 99 + b"\\n"
for _ in range(1500):
    os.write(1, line * 1000)
"""


@pytest.mark.parametrize("options", [(), SPOOLED], ids=["shared", "spooled"])
def test_f60_a_flood_costs_neither_memory_nor_another_tasks_start(
    tmp_path: Path, options: Sequence[str]
) -> None:
    writer = program(tmp_path, "writer.py", FLOOD)
    chain = "".join(
        f'    - {{name: c{n}, script: ["true"], depends_on: [{"go" if n == 0 else f"c{n - 1}"}]}}\n'
        for n in range(5)
    )
    tasks = f"""
    - {{name: flood, script: ["touch {tmp_path}/flows; {writer}"]}}
    - {{name: go, script: ["until test -e {tmp_path}/flows; do sleep 0.01; done"]}}
{chain}"""
    run = Run.start(HEAD + tasks, tmp_path, *options)
    try:
        (agent,) = run.agents()
        controller = run.controller
        peaks: dict[int, int] = {}

        def is_over() -> bool:
            for pid in (agent, controller):
                peaks[pid] = max(peaks.get(pid, 0), peak_bytes(pid))
            return (run.directory / ".sflow/summary.json").exists() or run.process.poll() is not None

        # Its console is a pipe that nobody reads meanwhile: that holds up the console and nothing else.
        wait_until(lambda: run.states().get("c4") == "completed", "the chain beside the flood")
        reader = subprocess.Popen(["cat"], stdin=run.process.stdout, stdout=subprocess.DEVNULL)
        wait_until(is_over, "the end")
        assert run.process.wait(60) == 0
        reader.wait(60)
        assert (run.directory / "flood" / "flood.log").stat().st_size == 150_000_000
        assert all(0 < peak < MEMORY_BYTES for peak in peaks.values()), peaks
        nothing_left(run)
    finally:
        run.kill()


def peak_bytes(pid: int) -> int:
    """Return the peak memory of a process."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


# ---------------------------------------------------------------------- F61: many writers

WRITER = """
import os, sys
name = os.environ["SFLOW_TASK_NAME"]
for number in range(3000):
    sys.stdout.write(f"{name} {number} {'-' * (number % 90)}")  # a line in two writes
    sys.stdout.write(f" end of {name}\\n")
"""


@pytest.mark.parametrize("options", [(), SPOOLED], ids=["shared", "spooled"])
def test_f61_lines_of_many_writers_are_never_mixed(tmp_path: Path, options: Sequence[str]) -> None:
    writer = program(tmp_path, "writer.py", WRITER)
    tasks = f'    - {{name: w, replicas: {{count: 8}}, script: ["{writer}"]}}\n'
    ended = sflow_ctl("run", workflow(tmp_path, tasks), "--run-id", "r", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for index in range(8):
        name = f"w_{index}"
        lines = [f"{name} {number} {'-' * (number % 90)} end of {name}" for number in range(3000)]
        log = (tmp_path / "sflow_output" / "r" / name / f"{name}.log").read_text()
        assert log.splitlines() == lines
        prefix = f"[{name}] "
        shown = [line for line in ended.stdout.splitlines() if line.startswith(prefix)]
        assert [line.removeprefix(prefix) for line in shown] == lines


# ---------------------------------------------------------------------- F62, F63


def test_f62_a_stopped_attach_holds_up_no_run(tmp_path: Path) -> None:
    tasks = """
    - {name: talk, script: ["i=0; while test $i -lt 200000; do echo line $i of a long log; i=$((i+1)); done"]}
"""
    run = Run.start(HEAD + tasks, tmp_path, "--quiet")
    try:
        run.wait_for("talk", "running")
        viewer = subprocess.Popen(
            command("attach", "r"), cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert viewer.stdout is not None
        viewer.stdout.readline()  # it is attached; from now on nobody reads what it shows
        status, output = run.finish()
        assert status == 0, output
        assert (run.directory / "talk" / "talk.log").read_text().count("\n") == 200_000
        nothing_left(run)
        viewer.kill()
        viewer.wait()
        viewer.stdout.close()
    finally:
        run.kill()


def test_f63_a_locale_without_characters_changes_no_file_and_breaks_no_output(tmp_path: Path) -> None:
    word = "Gr\u00fc\u00dfe \u6771\u4eac \U0001f680"
    (tmp_path / "w.yaml").write_text(
        f"""version: "0.1"
variables: {{WORD: "{word}"}}
workflow:
  name: output
  tasks:
    - {{name: a, script: ['echo "$WORD" ${{{{ variables.WORD }}}}; echo "$WORD" > "$SFLOW_TASK_OUTPUT_DIR/{word}.txt"']}}
    - {{name: b, depends_on: [a], script: ["echo \u00e4; exit 3"]}}
""",
        encoding="utf-8",
    )
    # Python takes C for UTF-8 unless it is told not to, which stands for the locales of which it cannot know.
    environ = {**os.environ, "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(
        command("run", "w.yaml", "--run-id", "r"),
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    directory = tmp_path / "sflow_output" / "r"
    assert (directory / "a" / "a.log").read_bytes() == f"{word} {word}\n".encode()
    assert (directory / "a" / f"{word}.txt").read_text(encoding="utf-8") == f"{word}\n"
    for name in (
        ".sflow/workflow.yaml",
        ".sflow/plan.json",
        ".sflow/events.jsonl",
        ".sflow/summary.json",
        "sflow.log",
    ):
        (directory / name).read_text(encoding="utf-8")  # all of them are what they should be
    assert word in (directory / ".sflow/workflow.yaml").read_text(encoding="utf-8")
    # Of our own nothing but ASCII; what the task printed is shown as it is.
    assert f"[a] {word} {word}\n".encode() in ended.stdout
    ours = ended.stdout.replace(f"{word} {word}".encode(), b"").replace("\u00e4".encode(), b"")
    assert ours.isascii(), ours
    for arguments in (("status", "r"), ("plan", "w.yaml"), ("logs", "a")):
        shown = subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert shown.returncode in (0, 1), shown.stderr
        assert b"Traceback" not in shown.stderr, shown.stderr
