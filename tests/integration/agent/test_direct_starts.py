"""A script that is one plain command is started without bash, and its program cannot see a difference."""

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sflow_agent.descriptors import Descriptors
from sflow_agent.launch.direct import DirectCommand, DirectCommands
from sflow_agent.worker import Lane, Workers
from tests.integration.agent.fake_controller import FakeController, spec

T = TypeVar("T")

SHOW = """#!/bin/sh
printf '%s|' "$0" "$@"
tr '\\0' '\\n' < /proc/$$/environ | sort
ulimit -a
exit 7
"""


class Ended(NamedTuple):
    """What can be seen of a process. Lines are sorted: bash has an order of its own for variables."""

    status: int
    output: list[bytes]
    errors: bytes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory in which the programs run: with some, and things that are none."""
    place = tmp_path_factory.mktemp("home")
    (place / "bin").mkdir()
    for name in ("show", "sh.ow", "bin/found", "bin/+x"):
        (place / name).write_text(SHOW)
        (place / name).chmod(0o700)
    (place / "bin" / "plain").write_text("exit 3\n")
    (place / "bin" / "plain").chmod(0o700)
    (place / "bin" / "locked").write_text(SHOW)
    (place / "bin" / "locked").chmod(0o600)
    (place / "bin" / "orphan").write_text("#!/no/such/interpreter\n")
    (place / "bin" / "orphan").chmod(0o700)
    (place / "bin" / "folder").mkdir()
    (place / "bin" / "dies").write_text("#!/bin/sh\nkill -USR1 $$\n")
    (place / "bin" / "dies").chmod(0o700)
    (place / "link").symlink_to(place)
    here = Path.cwd()
    os.chdir(place)
    yield place
    os.chdir(here)


class AtOnce(Workers):
    """Threads that are done at once."""

    def __init__(self) -> None:
        pass  # no descriptors: there are many of these

    def run(
        self,
        key: object,
        work: Callable[[], T],
        done: Callable[[T | OSError], None],
        lane: Lane | None = None,
    ) -> None:
        try:
            result: T | OSError = work()
        except OSError as error:
            result = error
        done(result)


def judge(home: Path, environment: Mapping[str, str], workers: Workers | None = None) -> DirectCommands:
    """Return an agent's judge in a directory."""
    return DirectCommands(workers or AtOnce(), environment, str(home))


def answer(home: Path, environment: Mapping[str, str], script: str) -> DirectCommand | None:
    """Return what is started for a script once all directories have answered."""
    judged = judge(home, environment)
    judged.command(("bash", "-c", script), environment)
    return judged.command(("bash", "-c", script), environment)


def run(program: str, argv: tuple[str, ...], environment: Mapping[str, str]) -> Ended:
    """Start a program as an agent does, and wait for its end."""
    done = subprocess.run(
        argv, executable=program, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return Ended(done.returncode, sorted(done.stdout.split(b"\n")), done.stderr)


def both(home: Path, environment: Mapping[str, str], script: str) -> tuple[Ended, Ended] | None:
    """Return how a script ends when it is started directly, and by bash; None if it is bash that is started."""
    command = answer(home, environment, script)
    if command is None:
        return None
    try:
        ours = run(command.program, command.argv, command.environment)
    except OSError:
        return None  # the agent starts bash then, which finds words for it
    return ours, run("/bin/bash", ("bash", "-c", script), environment)


def environment_of(home: Path, **more: str) -> dict[str, str]:
    """Return a task's environment, with the programs of the directory on its PATH."""
    return {"PATH": f"/nonexistent:{home}/bin:/usr/bin:/bin", "PWD": str(home), "HOME": "/root", **more}


OF_SCRIPTS = """
    found +x ./show sh.ow bin/found true false plain locked orphan folder dies no-such ./bin echo test exit a=b --x=1,2 -c %1 :
    time basename 0 @ a:b if { ~ b* $A ;
"""
WORDS = st.sampled_from(OF_SCRIPTS.split())
SCRIPTS = st.builds(
    lambda words, blank, end: blank.join(words) + end,
    st.lists(WORDS | st.text("ab01_./,:@%+=-", min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from([" ", "  ", "\t"]),
    st.sampled_from(["", "\n", " ", " \n", "\n\n"]),
)
OF_SHELLS = """
    PWD OLDPWD SHLVL PS1 PS3 PS4 _ IFS UID RANDOM OPTIND OPTERR LC_ALL LANG BASH BASH_ENV SHELLOPTS A.B A-B 1A HOSTNAME TERM SHELL
    HISTFILE MAIL MAILCHECK CDPATH GLOBIGNORE ENV TMOUT A HOME LINES PROMPT_COMMAND MACHTYPE OSTYPE HOSTTYPE INPUTRC TIMEFORMAT
    auto_resume histchars
"""
ODD_VARIABLES = st.sampled_from(OF_SHELLS.split())
VALUES = st.sampled_from(
    ["", "0", "1", "5", "99", "100", "-3", "x", "/", "/tmp", "HERE", "LINK", "HERE/", "HERE/../.", "HERE/bin"]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(SCRIPTS)
def test_the_program_prints_and_ends_as_by_bash(home: Path, script: str) -> None:
    ended = both(home, environment_of(home), script)
    assume(ended is not None)
    assert ended is not None
    assert ended[0] == ended[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.dictionaries(ODD_VARIABLES, VALUES, max_size=4), st.sampled_from(["found a b", "./show", "env"]))
def test_the_program_has_the_environment_that_it_has_by_bash(
    home: Path, variables: dict[str, str], script: str
) -> None:
    places = {"HERE": str(home), "LINK": str(home / "link")}
    for name, value in variables.items():
        for word, place in places.items():
            variables[name] = variables[name].replace(word, place) if word in value else variables[name]
    ended = both(home, {**environment_of(home), **variables}, script)
    assume(ended is not None)
    assert ended is not None
    assert ended[0] == ended[1]


@pytest.mark.parametrize(
    "script", ["found", "found --a=1 b", "./show x", "bin/found", "true", "false", "sleep 0", "env\n", "dies"]
)
def test_commands_of_plain_words_are_started_without_bash(home: Path, script: str) -> None:
    ended = both(home, environment_of(home, OLDPWD="/tmp", PS1="$", SHLVL="2"), script)
    assert ended is not None
    assert ended[0] == ended[1]


def test_the_first_true_of_an_agent_needs_no_bash_after_a_change_of_directory(home: Path) -> None:
    environment = environment_of(home, OLDPWD="/")
    assert judge(home, environment).command(("bash", "-c", "true"), environment) is not None


def test_a_link_to_the_directory_keeps_its_name(home: Path) -> None:
    command = answer(home, environment_of(home, PWD=str(home / "link")), "found")
    assert command is not None
    assert command.environment["PWD"] == str(home / "link")


@pytest.mark.parametrize("path", ["", ":/bin", "bin:/bin", "~/bin:/bin", "/bin/:/usr/bin", "/bin:"])
def test_a_path_for_which_bash_has_rules_is_bashs(home: Path, path: str) -> None:
    assert answer(home, {**environment_of(home), "PATH": path}, "sleep 0") is None


def test_a_directory_that_does_not_answer_is_left_to_bash(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands, stat, asked = threading.Event(), os.stat, []

    def slow(path: str) -> os.stat_result:
        asked.append(path)
        assert threading.current_thread() is not threading.main_thread()
        if path == "/nonexistent":
            stands.wait(60)
        return stat(path)

    monkeypatch.setattr(os, "stat", slow)
    workers = Workers(Descriptors(select.epoll()))
    judged, environment = judge(home, environment_of(home), workers), environment_of(home)
    argv = ("bash", "-c", "found")
    try:
        for _ in range(100):
            assert judged.command(argv, environment) is None
    finally:
        stands.set()
    assert asked.count("/nonexistent") == 1  # one thread waits, not one for each task


def test_a_program_that_comes_before_another_one_is_found_at_the_next_start(home: Path) -> None:
    judged, environment = judge(home, environment_of(home)), environment_of(home)
    judged.command(("bash", "-c", "env"), environment)
    first = judged.command(("bash", "-c", "env"), environment)
    (home / "bin" / "env").symlink_to("/bin/true")
    try:
        second = judged.command(("bash", "-c", "env"), environment)
    finally:
        (home / "bin" / "env").unlink()
    assert first is not None
    assert second is not None
    assert (first.program, second.program) == ("/usr/bin/env", f"{home}/bin/env")


# ---------------------------------------------------------------------- by a real agent


def test_a_direct_start_ends_by_its_signal(controller: FakeController) -> None:
    controller.spawn(spec("a", "bash", "-c", "sleep 0"))  # its PATH is asked for this one
    controller.exited("a")
    controller.spawn(spec("b", "bash", "-c", "sleep 1000"))
    pid = controller.started("b").pid
    controller.until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "the program runs")
    assert os.getsid(pid) == os.getpgid(pid) == pid
    controller.stop("b")
    assert controller.exited("b").signal == signal.SIGTERM
    assert controller.leave() == 0


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("no-such-program a", 127, "no-such-program: command not found"),
        ("/no/such/program", 127, "No such file or directory"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/etc", 126, "Is a directory"),
    ],
)
def test_bash_says_why_a_program_cannot_be_started(
    controller: FakeController, script: str, status: int, said: str
) -> None:
    for name in ("a", "b"):
        controller.spawn(spec(name, "bash", "-c", script))
        assert controller.exited(name).exit_code == status
        assert said in controller.log(name)
        assert controller.log(name).startswith("bash: line 1: ")
