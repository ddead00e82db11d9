"""The most specific cause of an end, from the evidence on a node."""

import pytest

from sflow_agent.core.exit_cause import Evidence, cause_of, is_asked_for_tracebacks
from sflow_agent.core.log_reading import ExplainingLine

FULL = ExplainingLine("disk_full", "No space left on device", "free some", "cp: No space left on device", 40)
OOM = ExplainingLine("oom", "std::bad_alloc", "", "std::bad_alloc", 3)


def word(evidence: Evidence) -> str | None:
    cause = cause_of(evidence)
    return None if cause is None else cause.word


def test_f39_a_status_alone_has_no_cause() -> None:
    assert cause_of(Evidence(exit_code=3, signal=None)) is None


def test_the_explaining_line_is_kept_with_its_place() -> None:
    cause = cause_of(Evidence(exit_code=1, signal=None, found=FULL, found_number=4))
    assert cause is not None
    assert (cause.word, cause.text, cause.hint) == ("disk_full", FULL.text, "free some")
    assert (cause.line, cause.line_number, cause.offset) == (FULL.line, 4, 40)


@pytest.mark.parametrize(("exit_code", "signal"), [(None, 9), (137, None)])
def test_f43_a_kill_while_the_kernel_killed_for_memory_is_oom(
    exit_code: int | None, signal: int | None
) -> None:
    evidence = Evidence(exit_code, signal, found=FULL, oom_kills=1, memory_limit="1.0 GiB")
    cause = cause_of(evidence)
    assert cause is not None
    assert cause.word == "oom"
    assert "the limit here is 1.0 GiB" in cause.text
    assert cause.line == ""
    assert word(Evidence(exit_code, signal)) == "signal"
    assert word(Evidence(exit_code, signal, is_oom_victim=True)) == "oom"


def test_a_failure_while_another_ranks_process_was_killed_is_not_oom() -> None:
    assert word(Evidence(1, None, oom_kills=1)) is None
    assert word(Evidence(1, None, found=FULL, oom_kills=1)) == "disk_full"
    cause = cause_of(Evidence(1, None, found=OOM, found_number=1, oom_kills=1))
    assert cause is not None
    assert (cause.word, cause.line) == ("oom", "std::bad_alloc")
    assert "a process of it" in cause.text


@pytest.mark.parametrize("signal", [1, 2, 15])
def test_an_end_from_outside_is_not_explained_by_the_log(signal: int) -> None:
    assert cause_of(Evidence(None, signal, found=FULL)) is None


def test_f39_a_kill_from_elsewhere_has_a_hint() -> None:
    cause = cause_of(Evidence(None, 9, found=FULL))
    assert cause is not None
    assert (cause.word, cause.text) == ("signal", "")
    assert "dmesg" in cause.hint


def test_an_abort_may_be_explained_by_the_log() -> None:
    assert word(Evidence(None, 6, found=FULL)) == "disk_full"
    assert cause_of(Evidence(None, 6)) is None


@pytest.mark.parametrize(("status", "name"), [(134, "SIGABRT"), (139, "SIGSEGV"), (135, "SIGBUS")])
def test_f39_a_shell_reports_a_crash_as_a_status(status: int, name: str) -> None:
    cause = cause_of(Evidence(status, None))
    assert cause is not None
    assert (cause.word, cause.text) == ("signal", f"a program in it was probably killed by {name}")
    assert not is_asked_for_tracebacks(status)


@pytest.mark.parametrize("status", [1, 2, 128, 130, 143, 160, 255])
def test_f39_other_statuses_are_statuses(status: int) -> None:
    assert cause_of(Evidence(status, None)) is None
    assert is_asked_for_tracebacks(status)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (127, "bash: line 1: fooo: command not found"),
        (127, 'redis: "redis-server" is not on the PATH of n1: install it'),
        (127, "sh: 1: fooo: not found"),
        (127, "bash: line 1: ./x: No such file or directory"),
        (126, "bash: line 1: ./x: Permission denied"),
        (126, "bash: ./x: /usr/bin/nope: bad interpreter: No such file or directory"),
        (126, "bash: line 1: ./x: cannot execute binary file: Exec format error"),
        (126, "bash: line 1: /bin/echo: Argument list too long"),
        (127, "env: 'python9': No such file or directory"),
        (127, 'exec: "foo": executable file not found in $PATH: unknown.'),
    ],
)
def test_f39_a_shell_that_cannot_start_a_program_is_a_launch(status: int, line: str) -> None:
    cause = cause_of(Evidence(status, None, found=FULL, tail=["earlier: command not found", line, "bye"]))
    assert cause is not None
    assert (cause.word, cause.text, cause.line) == ("launch", line, line)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("bash: line 1: ./run.sh: Permission denied", "chmod +x"),
        ("bash: ./run.sh: /bin/nosh: bad interpreter: No such file or directory", "first line"),
        ("bash: line 1: ./a.out: cannot execute binary file: Exec format error", "another processor"),
        ("bash: line 1: /bin/echo: Argument list too long", "to a file"),
        ("bash: line 1: ./run.sh: No such file or directory", "in the workspace"),
        ("bash: line 1: pythn3: command not found", "PATH"),
        ("env: 'python9': No such file or directory", "PATH"),
    ],
)
def test_a_launch_says_what_to_do_about_its_words(line: str, hint: str) -> None:
    cause = cause_of(Evidence(127, None, tail=[line]))
    assert cause is not None
    assert hint in cause.hint


def test_a_signal_that_an_operator_has_sent_is_not_said_to_come_from_elsewhere() -> None:
    cause = cause_of(Evidence(None, 9, asked_signal=9))
    assert cause is not None
    assert cause.hint.startswith("sflow-ctl signal sent it")
    other = cause_of(Evidence(None, 9, asked_signal=1))
    assert other is not None
    assert other.hint.startswith("sflow-ctl did not send it")
    assert cause_of(Evidence(3, None, asked_signal=1)) is None


def test_the_status_of_a_launch_without_its_words_is_only_a_status() -> None:
    assert cause_of(Evidence(127, None, tail=["hello"])) is None
    assert word(Evidence(1, None, tail=["fooo: command not found"])) is None
