"""Command lines that are read without click: the same options as with it, and none that it would refuse."""

import os
import sys
from unittest import mock

import click
import hypothesis
import pytest
from hypothesis import strategies

from protocol.errors import UsageError
from sflow_ctl.cli.app import group
from sflow_ctl.cli.commands import run as run_module
from sflow_ctl.cli.plain_run import FLAGS, MANY, ONE, VARIABLES, plain_options
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.supervision import lifeline
from sflow_ctl.runtime.supervision.supervisor import Death

OPTIONS = (
    *FLAGS,
    *ONE,
    *MANY,
    "-v",
    "--dry-run",
    "--no-such",
    "--max-running",
    "--skip-dependencies",
    "-h",
    "--",
)
VALUES = ("wf.yaml", "a=1", "x", "", "-", "-x", "NAME=a b", "dir/é.yaml", "=", "--", "a\nb", "1")
WORDS = (
    strategies.sampled_from(OPTIONS)
    | strategies.sampled_from(VALUES)
    | strategies.builds("{}={}".format, strategies.sampled_from(OPTIONS), strategies.sampled_from(VALUES))
    | strategies.builds("{}{}".format, strategies.sampled_from(OPTIONS), strategies.sampled_from(VALUES))
)


def with_click(argv: list[str]) -> RunOptions | None:
    """Return the options that click makes of a command line; None if it refuses it."""
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    with (
        mock.patch.dict(os.environ, environ, clear=True),
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(run_module, "begin_run", return_value=0) as begin,
    ):
        try:
            group.main(argv[1:], standalone_mode=False)
        except (click.ClickException, UsageError):
            return None
    return begin.call_args.args[0] if begin.called else None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "wf.yaml",
        "wf.yaml -q",
        "one.yaml two.yaml --set A=1 -s B=2 --output-dir out --run-id r",
        "--output-dir=out wf.yaml --keep-alive -t a -t b --label x=y -f more.yaml --artifact M=fs:///x",
    ],
)
def test_plain_command_lines_mean_what_click_makes_of_them(line: str) -> None:
    argv = ["sflow-ctl", "run", *line.split()]
    options = plain_options(argv, {})
    assert options is not None
    assert options == with_click(argv)


@hypothesis.given(strategies.lists(WORDS, max_size=7))
def test_no_command_line_means_something_else_than_with_click(words: list[str]) -> None:
    argv = ["sflow-ctl", "run", *words]
    options = plain_options(argv, {})
    if options is not None:
        assert options == with_click(argv)


@pytest.mark.parametrize(
    "line",
    [
        "wf.yaml --dry-run",
        "-qv",
        "-tname",
        "--resume last",
        "-h",
        "wf.yaml --",
        "--output-dir",
        "-t -q",
        "--quiet=1",
    ],
)
def test_other_command_lines_are_left_to_click(line: str) -> None:
    assert plain_options(["sflow-ctl", "run", *line.split()], {}) is None


@pytest.mark.parametrize("argv", [["sflow-ctl"], ["sflow-ctl", "plan"], ["sflow-ctl", "--debug", "run"]])
def test_other_commands_are_left_to_click(argv: list[str]) -> None:
    assert plain_options(argv, {}) is None


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_variables_that_change_a_run_are_left_to_click(name: str) -> None:
    assert plain_options(["sflow-ctl", "run"], {name: "1"}) is None


def test_all_variables_that_stand_for_options_are_known() -> None:
    assert {str(one.envvar) for one in run_module.run.params if one.envvar} <= VARIABLES


def test_a_controller_that_takes_over_is_left_to_click(monkeypatch: pytest.MonkeyPatch) -> None:
    after = mock.Mock(death=Death(9, 0, 0.0, (), ()))
    monkeypatch.setattr(lifeline, "_lifeline", after)
    assert plain_options(["sflow-ctl", "run"], {}) is None
