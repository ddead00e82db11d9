"""What a task leaves where another one's log will be: links, FIFOs, directories (S11)."""

import os
from pathlib import Path

import pytest

from protocol.machine.log_file import open_log
from tests.support import Run, sflow_ctl

PLANT = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ["cd $SFLOW_WORKFLOW_OUTPUT_DIR; rm -f b/b.log; %s"]}
    - {name: b, depends_on: [a], script: ["echo of b"]%s}
"""


@pytest.mark.parametrize("direct", ["", ", log: direct"])
@pytest.mark.parametrize("plant", ["ln -s ../../../victim b/b.log", "mkfifo b/b.log"])
def test_s11_what_is_planted_in_the_place_of_a_log_is_replaced(
    tmp_path: Path, plant: str, direct: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("not ours\n")
    run = Run.start(PLANT % (plant, direct), tmp_path)
    status, output = run.finish()
    assert status == 0, output
    assert (run.directory / "b/b.log").read_text() == "of b\n"
    assert not (run.directory / "b/b.log").is_symlink()
    assert victim.read_text() == "not ours\n"


def test_s11_a_link_in_the_place_of_a_log_that_is_written_is_replaced(tmp_path: Path) -> None:
    """The log is written again at its place, and never where the link leads."""
    victim = tmp_path / "victim"
    victim.write_text("not ours\n")
    log = "$SFLOW_TASK_OUTPUT_DIR/t.log"
    script = f"echo one; until grep -q one {log}; do sleep 0.01; done; ln -sf {victim} {log}; echo two"
    text = f'version: "0.1"\nworkflow: {{name: w, tasks: [{{name: t, script: ["{script}"]}}]}}\n'
    run = Run.start(text, tmp_path)
    status, output = run.finish()
    assert status == 0, output
    assert (run.directory / "t/t.log").read_text() == "one\ntwo\n"
    assert not (run.directory / "t/t.log").is_symlink()
    assert victim.read_text() == "not ours\n"


@pytest.mark.parametrize("plant", ["ln -s ../../../victim b/b.log", "mkfifo b/b.log"])
def test_s11_a_resume_replaces_what_was_planted(tmp_path: Path, plant: str) -> None:
    (tmp_path / "victim").write_text("not ours\n")
    run = Run.start(PLANT % (f"{plant}; exit 1", ""), tmp_path)
    assert run.finish()[0] == 1
    (tmp_path / "r.yaml").write_text(PLANT % ("true", ""))
    done = sflow_ctl("run", "r.yaml", "--resume", run.directory, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (run.directory / "b/b.log").read_text() == "of b\n"
    assert (tmp_path / "victim").read_text() == "not ours\n"


def test_s11_a_directory_in_the_place_of_a_log_is_an_error(tmp_path: Path) -> None:
    run = Run.start(PLANT % ("mkdir b/b.log", ""), tmp_path)
    status, output = run.finish()
    assert status == 1
    assert "task b could not be started: its log b/b.log cannot be made: Is a directory" in output


def test_s11_a_fifo_that_is_read_is_replaced_too(tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    descriptor = open_log(str(fifo))
    os.write(descriptor, b"x")
    os.close(descriptor)
    os.close(reader)
    assert fifo.read_bytes() == b"x"
