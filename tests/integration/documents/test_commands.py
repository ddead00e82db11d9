"""Commands of the documents, run as they are written, in the order of their page, with the output that it shows.

Numbers, times and paths of an output may differ; `...` stands for any lines, and each line shown must be printed.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.blocks import PAGES, ROOT, Block, blocks

WITH_COMMANDS = [page for page in PAGES if any(block.language == "console" for block in blocks(page))]
COMMAND_WITHIN_S = 60


def shape(line: str) -> str:
    """Return the line with what may differ between two runs replaced."""
    line = re.sub(r"-\d{8}-\d{6}-[0-9a-f]{6}", "-ID", line)
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?", "N", line)).strip()


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one line in the page's folder, as a user's shell would, without a terminal."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SFLOW_SITE_FILE": "", "XDG_CONFIG_HOME": str(folder / "none")}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_WITHIN_S,
        check=False,
    )


def check(block: Block, folder: Path) -> None:
    """Run the commands of a block; compare what is shown, and the exit status of the last one."""
    commands = re.split(r"(?m)^\$ ", block.text)[1:]
    for number, text in enumerate(commands):
        command, _, shown = text.partition("\n")
        result = run(command, folder)
        printed = [shape(line) for line in result.stdout.splitlines()]
        missing = [
            line
            for line in shown.splitlines()
            if line.strip() not in ("", "...") and shape(line) not in printed
        ]
        assert not missing, f"{block.place}: `{command}` printed\n{result.stdout}"
        if number == len(commands) - 1:
            wanted = int(block.marks.get("exit", "0"))
            assert result.returncode == wanted, f"{block.place}: `{command}` printed\n{result.stdout}"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_give_the_output_that_it_shows(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for block in blocks(page):
        if name := block.marks.get("file"):
            (tmp_path / name).write_text(block.text, encoding="utf-8")
        needed = block.marks.get("needs")
        if block.language != "console" or "illustrative" in block.marks:
            continue
        if needed is not None and shutil.which(needed) is None:
            continue
        check(block, tmp_path)
