"""Texts of other programs on their way to a terminal."""

import json

import pytest

from protocol.errors import UsageError
from protocol.text.ansi import printable
from sflow_ctl.cli.terminal.findings import print_findings
from sflow_ctl.cli.terminal.lines import print_json, print_line, print_warning
from sflow_ctl.cli.terminal.state_lines import StateLines
from sflow_ctl.cli.terminal.tables import plain_text, print_table, terminal_text
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.report.tables import Table

HOSTILE = {
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://x\x1b\\",
    "clear": "\x1b[2J",
    "reset": "\x1bc",
    "eight-bit CSI": "\x9b2J",
    "eight-bit OSC": "\x9d0;owned\x9c",
    "device string": "\x1bP1$q\x1b\\",
    "bell": "\x07",
    "backspace": "\x08\x08",
    "reversed": "\u202e",
    "delete": "\x7f",
    "broken": "\x1b]0;never ended",
    "bare escape": "\x1b",
    "surrogate": "\udc9b2J",
}


@pytest.fixture(params=list(HOSTILE.values()), ids=list(HOSTILE))
def hostile(request: pytest.FixtureRequest) -> str:
    return f"before{request.param}after"


def is_safe(text: str) -> bool:
    return all(one in "\n\t" or one.isprintable() for one in text)


def test_s3_a_foreign_text_is_printable(hostile: str) -> None:
    assert is_safe(printable(hostile))
    assert printable(hostile).startswith("before")


def test_s3_printable_text_stays() -> None:
    for text in ("plain", "two\nlines\tand a tab", "naïve 日本 ✓", ""):
        assert printable(text) == text
    assert printable("10%\r50%\r100%\r\nnext") == "100%\nnext"


def test_s3_lines_warnings_and_findings(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_line(hostile)
    print_warning(hostile)
    print_findings(UsageError.of("options", hostile, hostile, hint=hostile))
    shown = capsys.readouterr()
    assert is_safe(shown.out)
    assert is_safe(shown.err)


def test_s3_cells_of_tables(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Table(("A", "B"), ((hostile, "two\nlines"),), notes=(hostile,)))
    shown = capsys.readouterr().out
    assert is_safe(shown)
    assert len(shown.splitlines()) == 3


def test_s3_json_keeps_the_value_and_no_control(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = hostile.encode("utf-8", "replace").decode()
    print_json({"text": value})
    shown = capsys.readouterr().out
    assert is_safe(shown)
    assert json.loads(shown) == {"text": value}


def test_s3_state_lines(hostile: str) -> None:
    lines = StateLines(1, is_brief=False)
    change = Transition(
        task=hostile, attempt=1, old=TaskState.RUNNING, new=TaskState.FAILED, reason=Reason("exit", hostile)
    )
    line = lines.add(change)
    assert line is not None
    assert is_safe(line)


def test_n7_a_terminal_without_a_size_gets_a_table() -> None:
    import os
    import pty

    from sflow_ctl.cli.terminal.columns import columns

    controller, terminal = pty.openpty()
    try:
        assert os.get_terminal_size(terminal).columns == 0
        assert columns(terminal) == 80
    finally:
        os.close(controller)
        os.close(terminal)
    table = Table(("A",), (("value",),))
    assert terminal_text(table, 80, colours=False) == plain_text(table)
