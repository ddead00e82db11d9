"""Errors and warnings as a terminal and a pipe show them."""

from pathlib import Path

from msgspec.structs import replace

from protocol.errors import Finding
from sflow_ctl.cli.terminal.findings import finding_text

FILE = 'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n    - {name: a, scirpt: "x"}\n'


def finding(tmp_path: Path, where: str = ":5:17  workflow.tasks[0].scirpt") -> Finding:
    path = tmp_path / "w.yaml"
    path.write_text(FILE)
    return Finding("unknown-key", 'unknown key "scirpt"', f"{path}{where}", 'did you mean "script"?')


def test_ux_12_a_pipe_gets_the_plain_text(tmp_path: Path) -> None:
    one = finding(tmp_path)
    assert finding_text(one, "error", has_source=False, has_colours=False) == str(one)
    warning = finding_text(one, "warning", has_source=False, has_colours=False)
    assert warning == str(one).replace("error[", "warning[")


def test_ux_12_a_terminal_gets_the_line_and_a_mark_below_the_word(tmp_path: Path) -> None:
    lines = finding_text(finding(tmp_path), "error", has_source=True, has_colours=False).split("\n")
    assert lines[1].startswith("  where: ")
    assert lines[2] == '     5 |     - {name: a, scirpt: "x"}'
    assert lines[3] == "       |                 ^^^^^^"
    assert lines[4].startswith("  hint:")


def test_ux_12_a_key_that_does_not_belong_there_is_marked_itself(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text("tasks:\n  - {name: a, scirpt: [x]}\n")
    finding = Finding("unknown-key", 'unknown key "scirpt"', f"{path}:2:22  tasks[0].scirpt", None)
    text = finding_text(finding, "error", has_source=True, has_colours=False)
    line, mark = text.splitlines()[-2:]
    assert line.index("scirpt") == mark.index("^^^^^^")
    assert mark.count("^") == len("scirpt")


def test_ux_12_a_value_in_quotes_is_marked_whole(tmp_path: Path) -> None:
    one = replace(finding(tmp_path, ":5:25"), code="wrong-type")
    lines = finding_text(one, "error", has_source=True, has_colours=False).split("\n")
    assert lines[3] == "       |                         ^^^"


def test_ux_12_errors_are_red_and_warnings_yellow(tmp_path: Path) -> None:
    one = finding(tmp_path)
    error = finding_text(one, "error", has_source=True, has_colours=True)
    assert error.startswith("\x1b[31merror[unknown-key]\x1b[0m: \x1b[1munknown key")
    assert "\x1b[31m^^^^^^\x1b[0m" in error
    assert finding_text(one, "warning", has_source=False, has_colours=True).startswith("\x1b[33mwarning[")


def test_ux_12_a_place_that_cannot_be_read_again_has_no_line(tmp_path: Path) -> None:
    for where in (f"{tmp_path}/nosuch.yaml:1:1", "/dev/null:1:1", f"{tmp_path}:1:1", "--set PORT=abc"):
        one = Finding("wrong-value", "x", where)
        assert finding_text(one, "error", has_source=True, has_colours=False) == str(one)
    late = finding(tmp_path, ":99:1")
    assert "|" not in finding_text(late, "error", has_source=True, has_colours=False)


def test_ux_12_controls_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text("a: \x1b]0;title\x07b\n")
    one = Finding("wrong-value", "x", f"{path}:1:1")
    assert "\x1b" not in finding_text(one, "error", has_source=True, has_colours=False)
