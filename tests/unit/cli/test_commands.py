"""Names of commands: what is misspelled is answered with what was meant."""

import click
import pytest

from protocol.errors import ExitStatus, UsageError
from sflow_ctl.cli.app import group
from sflow_ctl.runtime.files.samples import find_sample


@pytest.mark.parametrize(("typed", "meant"), [("stat", "status"), ("rn", "run"), ("logz", "logs")])
def test_ux_15_a_misspelled_command_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    for argv in ([typed], [typed, "--json"], ["help", typed]):
        with pytest.raises(UsageError) as caught:
            group.main(argv, standalone_mode=False)
        (finding,) = caught.value.findings
        assert finding.code == "unknown-command"
        assert finding.hint == f'did you mean "{meant}"?'
        assert caught.value.exit_status is ExitStatus.USAGE


def test_ux_15_a_command_like_none_gets_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        group.main(["zzz"], standalone_mode=False)
    assert "plan, init, validate" in str(caught.value.findings[0].hint)


@pytest.mark.parametrize(
    "argv", [["help"], ["help", "run"], ["help", "sample", "copy"], ["help", "plan", "x"]]
)
def test_ux_15_help_is_a_command_too(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert group.main(argv, standalone_mode=False) == 0
    usage = capsys.readouterr().out.split("\n")[0]
    assert all(name in usage for name in argv[1:] if name != "x")
    assert usage.startswith("Usage: ")


def test_ux_15_unknown_options_are_still_errors_of_usage() -> None:
    with pytest.raises(click.ClickException):
        group.main(["--nosuch"], standalone_mode=False)


def test_ux_15_an_unknown_sample_is_an_error_of_usage() -> None:
    with pytest.raises(Exception, match="there is no sample") as caught:
        find_sample("hell")
    assert getattr(caught.value, "exit_status", None) is ExitStatus.USAGE
    assert 'did you mean "hello"?' in str(caught.value)
    assert "available samples: " in str(caught.value)


@pytest.mark.parametrize("name", ["upgrade", "update"])
def test_an_upgrade_is_done_by_pip(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        group.main([name], standalone_mode=False)
    assert caught.value.findings[0].hint == "sflow-ctl does not install itself: pip install -U sflow-ctl"
