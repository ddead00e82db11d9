"""Code blocks of Markdown pages, with the comments before them that say how a test treats each.

Marks are HTML comments on the lines before a block:
`file: NAME` saves the block for the commands of its page, `refused: CODE` expects this finding, `exit: N` is the exit
status of a block's last command, `needs: PROGRAM` skips without that program, `illustrative: REASON` is not checked.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
_FENCE = re.compile(r"^```(\w*)\s*$")
_MARK = re.compile(r"^<!-- (file|refused|exit|needs|illustrative): (.+?) -->$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `line` is that of its first line of text."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def place(self) -> str:
        """Return where it is, for messages and test ids."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    marks: dict[str, str] = {}
    start, language, lines = 0, "", list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if start:
            if fence:
                yield Block(page, start, language, "\n".join(lines) + "\n", marks)
                marks, start, lines = {}, 0, []
            else:
                lines.append(line)
        elif fence:
            start, language = number + 1, fence[1]
        elif mark := _MARK.match(line):
            marks = {**marks, mark[1]: mark[2]}
        elif line.strip():
            marks = {}


def all_blocks() -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in PAGES if page.exists() for block in blocks(page)]
