"""How far tasks are, by their own words."""

import pytest

from protocol.text.line_pattern import LinePattern
from sflow_ctl.report.looking.progress import MAX_MESSAGE, parsed_progress, progress_in
from sflow_ctl.report.run_view import TaskProgress


@pytest.mark.parametrize(
    ("line", "progress", "text"),
    [
        ("12/100\n", TaskProgress(12, 100), "12 of 100 (12 %)"),
        (" 0.125 ", TaskProgress(0.125), "12 %"),
        ("7", TaskProgress(7), "7"),
        ("3/0", TaskProgress(3, 0), "3 of 0"),
        ('{"current": 5}', TaskProgress(5), "5"),
        ('{"current": 1, "total": 4, "message": "epoch\\n2"}', None, "1 of 4 (25 %): epoch"),
        ('{"current": 1, "total": "4"}', TaskProgress(1, 4), "1 of 4 (25 %)"),
        ('{"current": 1, "message": 5}', TaskProgress(1), "100 %"),
    ],
)
def test_lines_that_say_how_far_a_task_is(line: str, progress: TaskProgress | None, text: str) -> None:
    found = parsed_progress(line)
    assert found is not None
    assert progress is None or found == progress
    assert found.text.startswith(text)


@pytest.mark.parametrize(
    "line", ["", "x", "1/", "/2", "1/2/3", "nan", "inf/2", "{", "{}", '{"current": true}', '{"total": 3}']
)
def test_lines_that_say_nothing(line: str) -> None:
    assert parsed_progress(line) is None


def test_messages_are_cut_and_printable() -> None:
    found = parsed_progress('{"current": 1, "message": "\\u001b[31m' + "a" * 500 + '"}')
    assert found is not None
    assert len(found.message) == MAX_MESSAGE
    assert "\x1b" not in found.message


@pytest.mark.parametrize(
    ("regex", "line", "text"),
    [
        (r"step (\d+)/(\d+)", "step 1/4 step 3/4", "3 of 4 (75 %)"),
        (r"epoch (\d+)", "epoch 7", "7"),
        (r"(?P<percent>[\d.]+)%", "done: 12.5%", "12 %"),
        (r"(?P<message>\w+): (?P<current>\d+)(?:/(?P<total>\d+))?", "train: 5", "5: train"),
        (r"step (\d+)/(\d+)", "nothing", None),
        (r"step (\w+)", "step x", None),
    ],
)
def test_lines_of_a_log_say_how_far_a_task_is(regex: str, line: str, text: str | None) -> None:
    found = progress_in(line, LinePattern(regex))
    assert (None if found is None else found.text) == text
