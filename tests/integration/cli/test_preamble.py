"""A preamble as bash runs it: before the command, in its environment, with a clear end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sflow_ctl.batch.preamble import MARK_VARIABLE, Preamble, reentry
from sflow_ctl.batch.script import BatchJob, batch_script
from tests.support import sflow_ctl

SHOW = ("bash", "-c", 'printf "%s|" "$A" "$PWD" "$(umask)" "${0}" "$SFLOW_PREAMBLE"', "it's $x")


def preamble(*commands: str) -> Preamble:
    """At places of a site's file."""
    return Preamble(commands, tuple(f"/etc/s.yaml:{n}:3  preamble[{n}]" for n in range(len(commands))))


def ran(script: str) -> "subprocess.CompletedProcess[str]":
    """By bash, from the root."""
    return subprocess.run(
        ["bash", "-c", script],
        cwd="/",
        env={"PATH": os.environ["PATH"], "A": "old"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_environment_is_that_of_the_command_and_its_directory_is_not(tmp_path: Path) -> None:
    commands = preamble(
        "# a comment", "export A=new", "if true; then\n  umask 027\nfi\n", "cd /usr", "x=5", "set -u"
    )
    done = ran(reentry(commands, str(tmp_path), SHOW))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"new|{tmp_path}|0027|it's $x|{commands.mark}|"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("false", 1),
        ("(exit 7)", 7),
        ("no-such-program --x", 127),
        ("exit 0", 0),
        ("echo 'never closed", 2),
        ("if true; then", 2),
        ("set -e\nfalse", 1),
        ("false | true; false", 1),
    ],
)
def test_the_first_that_fails_ends_it_and_is_named(command: str, status: int) -> None:
    done = ran(reentry(preamble("true", command, "echo unreached"), "/", ("echo", "started")))
    assert done.returncode == 3
    assert "unreached" not in done.stdout
    assert "started" not in done.stdout
    first = command.partition("\n")[0]
    assert f"error[preamble-failed]: the preamble ended with exit status {status}: {first}\n" in done.stderr
    # What is never closed swallows all that follows, so bash ends where it began.
    assert "  where: /etc/s.yaml:1:3  preamble[1]\n" in done.stderr


def test_a_command_may_fail_if_it_is_marked() -> None:
    assert (
        ran(reentry(preamble("false || true", "! true || true"), "/", ("echo", "started"))).stdout
        == "started\n"
    )


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))))
def test_any_text_reaches_the_command_as_it_is(text: str) -> None:
    done = ran(reentry(preamble("true"), "/", ("printf", "%s", text)))
    assert (done.returncode, done.stdout) == (0, text)


def test_preambles_are_distinguished() -> None:
    marks = {preamble(*commands).mark for commands in ((), ("a",), ("b",), ("a", "b"), ("ab",), ("a\nb",))}
    assert len(marks) == 6
    assert preamble("a").mark == Preamble(("a",), ("elsewhere",)).mark


def test_a_batch_script_has_it_before_the_run(tmp_path: Path) -> None:
    def script(*commands: str) -> str:
        job = BatchJob(
            name="j",
            argv=SHOW,
            workspace_dir=str(tmp_path),
            stdout="o",
            stderr="e",
            partition="p",
            account="a",
            nodes=1,
            preamble=tuple(preamble(*commands).lines()),
        )
        return batch_script(job, "x")

    done = ran(script("export A=new"))
    assert done.stdout.startswith(f"new|{tmp_path}|")
    assert ran(script("export A=new", "false")).returncode == 3
    assert f"export {MARK_VARIABLE}" not in script()


WORKFLOW = """
version: "0.1"
settings: {preamble: [PREAMBLE]}
workflow: {name: w, tasks: [{name: t, script: ['echo "task has $A $(ulimit -Sn)"']}]}
"""


def test_controller_and_tasks_of_a_run_have_its_environment_and_limits(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        WORKFLOW.replace("PREAMBLE", f"'echo ran >> {tmp_path}/count', export A=new, ulimit -Sn 777")
    )
    done = sflow_ctl("run", "w.yaml", "--nodes", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "task has new 777" in done.stdout
    assert (tmp_path / "count").read_text() == "ran\n"


def test_a_run_in_the_environment_of_its_preamble_does_not_repeat_it(tmp_path: Path) -> None:
    nested = f"{sys.executable} -m sflow_ctl run w.yaml --run-id inner"
    text = WORKFLOW.replace("PREAMBLE", f"'echo ran >> {tmp_path}/count'")
    (tmp_path / "w.yaml").write_text(text)
    (tmp_path / "outer.yaml").write_text(text.replace("'echo \"task", f"'{nested}; echo \"task"))
    done = sflow_ctl("run", "outer.yaml", "--run-id", "outer", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "sflow_output" / "inner" / ".sflow/summary.json").exists()
    assert (tmp_path / "count").read_text() == "ran\n"


def test_a_failing_one_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("PREAMBLE", "'true', 'test -e /nowhere'"))
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert not (tmp_path / "sflow_output").exists()
    assert "exit status 1: test -e /nowhere" in done.stderr
    assert "where: w.yaml:3:31  settings.preamble[1]" in done.stderr
    looked = sflow_ctl("run", "w.yaml", "--dry-run", cwd=tmp_path)
    assert looked.returncode == 0, looked.stderr
