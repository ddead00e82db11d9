"""`-` is standard input for every command that reads a workflow; pipes survive a preamble."""

import subprocess
from pathlib import Path

import pytest

from tests.support import command

TEXT = 'version: "0.1"\nSETTINGSworkflow: {name: piped, tasks: [{name: t, script: "echo has $A"}]}\n'
PREAMBLE = 'settings: {preamble: ["export A=new"]}\n'


def ask(*words: str, cwd: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=cwd, input=text, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("run", "-"), "[t] has"),
        (("run", "--dry-run", "-"), "Workflow piped: 1 task on 1 node"),
        (("run", "-f", "-"), "[t] has"),
        (("plan", "-"), "Workflow piped: 1 task on 1 node"),
        (("compose", "-"), "name: piped"),
        (("compose", "--validate", "-"), "name: piped"),
        (("visualize", "-"), 'task0["t"]'),
        (("visualize", "-", "-o", "-"), 'task0["t"]'),
        (("run", "-", "--detach", "--run-id", "far"), "far\n"),
    ],
)
def test_public_21_a_hyphen_is_standard_input(tmp_path: Path, words: tuple[str, ...], shown: str) -> None:
    done = ask(*words, cwd=tmp_path, text=TEXT.replace("SETTINGS", ""))
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_public_21_a_batch_script_stores_what_came_from_standard_input(tmp_path: Path) -> None:
    words = ("batch", "-", "-N", "1", "-p", "p", "-A", "a")
    done = ask(*words, "-o", "job.sh", cwd=tmp_path, text=TEXT.replace("SETTINGS", ""))
    assert done.returncode == 0, done.stderr
    assert "name: piped" in (tmp_path / "job.yaml").read_text()
    assert f"--file {tmp_path}/job.yaml" in (tmp_path / "job.sh").read_text().replace(" \\\n ", "")
    printed = ask(*words, cwd=tmp_path, text=TEXT.replace("SETTINGS", ""))
    assert printed.returncode == 2
    assert "a job can read" in printed.stderr


def test_public_21_mistakes_in_standard_input_have_a_place(tmp_path: Path) -> None:
    done = ask("plan", "-", cwd=tmp_path, text=TEXT.replace("SETTINGS", "").replace("script", "scirpt"))
    assert done.returncode == 2
    assert "where: <stdin>:2:" in done.stderr
    empty = ask("plan", "-", cwd=tmp_path, text="")
    assert empty.returncode == 2
    assert "the workflow file <stdin> is empty" in empty.stderr


@pytest.mark.parametrize("file", ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_public_21_a_preamble_does_not_use_up_a_pipe(tmp_path: Path, file: str) -> None:
    done = ask("run", file, cwd=tmp_path, text=TEXT.replace("SETTINGS", PREAMBLE))
    assert done.returncode == 0, done.stderr
    assert "[t] has new" in done.stdout
