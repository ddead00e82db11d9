"""`logs` with choices, on runs of every kind."""

import subprocess
import time
from pathlib import Path

import pytest

from sflow_ctl.cli.looking.chosen_lines import Choice, pattern
from sflow_ctl.runtime.viewing.log_parts import TimedLine, Wanted
from tests.support import Run, command, sflow_ctl

STAMPED = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: a
      script:
        - echo first; echo "$(date '+%F %T,001') a1"
        - echo more; sleep 1.2; echo "$(date '+%F %T,001') a2"
    - {name: b, script: ["sleep 0.6; echo \\"$(date '+%F %T,500') b1\\""]}
    - {name: c, script: ["echo try; exit 3"], retries: {count: 1, interval: 0}, on_failure: continue}
"""


@pytest.fixture
def stamped(tmp_path: Path) -> Run:
    run = Run.start(STAMPED, tmp_path, run_id="stamped")
    assert run.finish()[0] == 0
    return run


def shown(cwd: Path, *words: str) -> list[str]:
    done = sflow_ctl("logs", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_ux_15_several_logs_are_merged_by_the_times_of_their_lines(stamped: Run, tmp_path: Path) -> None:
    lines = shown(tmp_path, "a", "b")
    order = [line.split()[-1] for line in lines]
    assert order.index("b1") > order.index("more")
    assert order.index("b1") < order.index("a2") or lines[-1].endswith("b1")
    assert [one for one in order if one != "b1"] == ["first", "a1", "more", "a2"]
    assert lines == shown(tmp_path, "[ab]")


def test_ux_15_times_are_marked_where_they_are_only_the_earliest(stamped: Run, tmp_path: Path) -> None:
    first, known, after, last = shown(tmp_path, "-t", "a")
    assert first[0] == ">"
    assert known[0] == " "
    assert known[1:20] == known[25:44], "the time is the line's own"
    assert after == f">{known[1:24]} more"
    assert last[0] == " "


def test_lines_are_chosen_by_text_time_and_attempt(stamped: Run, tmp_path: Path) -> None:
    assert [line.split()[-1] for line in shown(tmp_path, "--grep", "[ab]2$")] == ["a2"]
    assert [line.split()[-1] for line in shown(tmp_path, "--grep", "1$", "-n", "1")] == ["a1", "b1"]
    assert shown(tmp_path, "--until", "2020-01-01") == []
    assert len(shown(tmp_path, "--since", "1h")) == 6
    future = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time_ns() / 1e9 + 3600))
    assert shown(tmp_path, "--since", future) == []
    assert shown(tmp_path, "c", "--attempt", "all") == ["try", "try"]
    assert shown(tmp_path, "c", "--attempt", "1") == ["try"]
    assert "c has 2 attempts" in sflow_ctl("logs", "c", "--attempt", "3", cwd=tmp_path).stderr
    assert len(shown(tmp_path, "--node", "localhost")) == 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--node", "n1"), 'has no node "n1"'),
        (("--rank", "2"), "the largest of these tasks has 1 process\n"),
        (("--grep", "("), "is not a regular expression"),
        (("--since", "soon"), "a duration before now"),
        (("--attempt", "0"), 'neither the number of an attempt, from 1, nor "all"'),
        (("z*",), 'has no task "z*"'),
    ],
)
def test_wrong_choices_are_answered(stamped: Run, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = sflow_ctl("logs", *words, cwd=tmp_path)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


def test_following_continues_with_the_next_attempt(tmp_path: Path) -> None:
    text = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: a
      script:
        - echo one; while [ ! -e go ]; do sleep 0.05; done; echo two
        - '[ -e done ] && echo three && exit 0; touch done; exit 1'
      retries: {count: 1, interval: 0}
    - {name: b, script: ["true"], depends_on: [a]}
"""
    run = Run.start(text, tmp_path)
    try:
        with subprocess.Popen(
            command("logs", "-f", "-t", "a", "b"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
        ) as following:
            assert following.stdout is not None
            assert following.stdout.readline().endswith(" one\n")
            (tmp_path / "go").touch()
            rest = [line.split()[-1] for line in following.stdout]
            assert following.wait(timeout=60) == 0
        assert rest == ["two", "one", "two", "three"]
        assert run.finish()[0] == 0
    finally:
        run.kill()


def test_ux_04_logs_mean_the_live_run(live: Run, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(STAMPED)
    assert sflow_ctl("run", "w.yaml", "--run-id", "newer", cwd=tmp_path).returncode == 0
    assert shown(tmp_path, "srv") == ["loading"]
    assert len(shown(tmp_path, "--run", "newer", "-t")) == 6
    assert sflow_ctl("logs", "cli", cwd=tmp_path).stderr == "cli has not started: it waits for srv\n"
    assert shown(tmp_path, "--only", "s*", "--only", "good") == ["[srv] loading", "[good] fine"]


def test_logs_of_a_killed_run_and_of_missing_files(killed: Run, tmp_path: Path) -> None:
    assert sorted(shown(tmp_path, "--grep", "oops|fine")) == ["[bad] oops", "[good] fine"]
    (killed.directory / "bad/bad.log").unlink()
    assert shown(tmp_path, "--grep", "oops|fine") == ["[good] fine"]
    assert sflow_ctl("logs", "-f", "-t", cwd=tmp_path, within_s=30).returncode == 0


def test_ux_04_watching_ends_with_the_run(live: Run, tmp_path: Path) -> None:
    with subprocess.Popen(
        command("status", "--watch"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("live is running")
        live.process.terminate()
        assert live.finish()[0] == 143
        rest = watching.stdout.read()
        assert watching.wait(timeout=60) == 0
    assert "live: was terminated after" in rest
    assert "\x1b" not in rest
    lines = sflow_ctl("status", "-w", "--json", cwd=tmp_path).stdout.splitlines()
    assert len(lines) == 1


def test_r17_a_pattern_of_grep_takes_long_for_no_line() -> None:
    wanted = pattern(None, None, "^(a+)+$(?!x)|ready")  # type: ignore[arg-type]
    assert wanted is not None
    choice = Choice(wanted=Wanted(), pattern=wanted)
    began = time.monotonic()
    lines = [b"a" * 60_000 + b"!"] * 2 + [b"it is ready"]
    assert [choice.takes(TimedLine(0, 0, False, 0, "t", line)) for line in lines] == [False, False, True]
    assert time.monotonic() - began < 20
    assert "takes too long on a line" in wanted.problem


def test_logs_take_the_run_as_a_word_as_other_commands_do(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: [echo $W]}, {name: b, script: [echo b]}]}\n'
    )
    for name in ("first", "second"):
        done = sflow_ctl("run", "w.yaml", "-q", "--run-id", name, cwd=tmp_path, env={"W": name})
        assert done.returncode == 0, done.stderr
    assert sflow_ctl("logs", "first", "a", cwd=tmp_path).stdout == "first\n"
    assert sflow_ctl("logs", "a", cwd=tmp_path).stdout == "second\n"
    assert sorted(sflow_ctl("logs", "first", cwd=tmp_path).stdout.split()) == ["[a]", "[b]", "b", "first"]
    wrong = sflow_ctl("logs", "frist", cwd=tmp_path)
    assert (wrong.returncode, "error[unknown-task]" in wrong.stderr) == (2, True)
    wrong = sflow_ctl("logs", "--run", "first", "second", cwd=tmp_path)
    assert (wrong.returncode, "error[unknown-task]" in wrong.stderr) == (2, True)
