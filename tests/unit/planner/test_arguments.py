"""Options that the file and the command line add: how they are split, and which of them replace others."""

import pytest

from sflow_ctl.planner.launch.arguments import replaced_arguments, split_arguments


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["--gres=gpu:1 --exclusive"], ["--gres=gpu:1", "--exclusive"]),
        (["-e", "A=1"], ["-e", "A=1"]),
        (["-e A='x y'"], ["-e", "A=x y"]),
        ([" --exclude=a,b ", ""], ["--exclude=a,b"]),
        (["it's"], ["it's"]),
        ([3], ["3"]),
    ],
)
def test_entries_are_split_as_a_shell_does(entries: list[object], words: list[str]) -> None:
    assert split_arguments(entries) == tuple(words)


@pytest.mark.parametrize(
    ("general", "specific", "expected"),
    [
        ("--gres=gpu:8", "--gres=gpu:4", "--gres=gpu:4"),
        ("--gres gpu:8 --exclusive", "--gres=gpu:4", "--exclusive --gres=gpu:4"),
        ("--exclusive", "--exclusive", "--exclusive"),
        ("--env=A=1 --env=B=1", "--env=A=2", "--env=B=1 --env=A=2"),
        ("-e A=1 -e B=1", "--env A=2", "-e B=1 --env A=2"),
        ("--label=a=1 -l b=1", "-l a=2", "-l b=1 -l a=2"),
        ("-v /a:/b --mount type=bind,src=/x,dst=/y", "-v /c:/d", "-v /a:/b --mount type=bind,src=/x,dst=/y -v /c:/d"),
        ("--device nvidia.com/gpu=0", "--device nvidia.com/gpu=1", "--device nvidia.com/gpu=0 --device nvidia.com/gpu=1"),
        ("--shm-size 1g --init", "", "--shm-size 1g --init"),
        ("", "--init", "--init"),
        ("stray --a", "--a=1", "stray --a=1"),
        ("stray other --a=1", "stray", "stray other --a=1 stray"),
    ],
)  # fmt: skip
def test_equal_options_are_replaced_and_others_kept(general: str, specific: str, expected: str) -> None:
    """Equal is the text before the last `=`; what only adds, such as mounts, replaces nothing."""
    assert replaced_arguments(general.split(), specific.split()) == tuple(expected.split())
