"""A terminal whose locale is not UTF-8 gets words and ASCII for what is drawn; files and pipes get the same everywhere."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from sflow_ctl.cli.terminal.drawn_characters import in_ascii
from tests.support import PATIENCE_S, command

WORKFLOW = """version: "0.1"
workflow: {name: größe, tasks: [{name: a, replicas: 2, script: ["true"]}, {name: b, script: ["exit 3"], depends_on: [a]}]}
"""


def on_terminal(cwd: Path, *words: str, locale: str) -> str:
    """Return what a command writes to a terminal."""
    (cwd / "w.yaml").write_text(WORKFLOW)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "LC_ALL": locale}
    process = subprocess.Popen(
        command(*words), cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:
        pass  # its other end is closed
    os.close(ours)
    process.wait(PATIENCE_S)
    return seen.decode()


@pytest.mark.parametrize(
    ("words", "drawn", "plain"),
    [
        (("validate", "w.yaml"), "✓ Configuration is valid", "ok: Configuration is valid"),
        (("run", "w.yaml", "--dry-run"), "a × 2", "a x 2"),
        (("run", "w.yaml", "-q"), "✗ Workflow failed", "failed: Workflow failed"),
    ],
)
def test_what_is_drawn_is_ascii_where_the_locale_is_not_utf8(
    tmp_path: Path, words: tuple[str, ...], drawn: str, plain: str
) -> None:
    assert drawn in on_terminal(tmp_path, *words, locale="C.UTF-8")
    seen = on_terminal(tmp_path, *words, locale="C")
    assert plain in seen
    assert seen.replace("größe", "").isascii(), "names of users stay"


def test_a_pipe_gets_the_same_in_each_locale(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    outputs = {
        subprocess.run(
            command("run", "w.yaml", "--dry-run"),
            cwd=tmp_path,
            env={**os.environ, "LC_ALL": locale},
            capture_output=True,
            check=True,
        ).stdout.decode()
        for locale in ("C", "C.UTF-8", "POSIX")
    }
    assert len(outputs) == 1
    assert "✓ Configuration is valid" in outputs.pop()


def test_only_marks_at_the_beginning_of_lines_become_words() -> None:
    assert (
        in_ascii("✓ done\n\x1b[31m✗ over\x1b[0m\n✓✗ × é") == "ok: done\n\x1b[31mfailed: over\x1b[0m\n+x x é"
    )
