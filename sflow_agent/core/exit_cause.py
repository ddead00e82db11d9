"""Picks the most specific cause of a rank's failure from the evidence on its node. Pure."""

import errno
from collections.abc import Sequence

from msgspec import Struct

from protocol.ids import RankId
from protocol.messages.facts import ExitCause, LaunchFailed, Notice
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.signal_names import signal_name
from sflow_agent.core.events import ProcessExited, ProcessFailed
from sflow_agent.core.log_reading import ExplainingLine

SHOWN_CHARACTERS = 300
"""The length of a line in a sentence; the line itself is kept longer."""
_SIGKILL = 9
_FROM_OUTSIDE = frozenset({1, 2, 9, 15})
"""HUP, INT, KILL, TERM: sent from outside, so the log explains nothing."""
_CRASHES = frozenset({4, 5, 6, 7, 8, 9, 11, 31})
"""ILL, TRAP, ABRT, BUS, FPE, KILL, SEGV, SYS: a shell reports them as 128 + number, and programs do not exit with that."""
_NOT_STARTED = frozenset({126, 127})
"""A shell's status when it cannot start a command. Source: bash(1), EXIT STATUS."""
_LAUNCH_LINE = lazy_pattern(
    r"command not found|: not found$|No such file or directory|Permission denied|bad interpreter|cannot execute"
    r"|Exec format error|Argument list too long|: Is a directory|executable file not found|required file not found"
    r"| is not on the PATH of "  # as our presets say it
)
_LAUNCH_HINT = "check the program's name, its mode, its first line and PATH, all on the task's node"
_LAUNCH_HINTS = (
    (
        ("Permission denied",),
        "make it executable with chmod +x, or start it with its interpreter, as in: bash FILE",
    ),
    (
        ("bad interpreter",),
        "the program that its first line names is not there: correct that line, or install it",
    ),
    (
        ("Exec format error",),
        "it is a program for another processor, or a script without a first line such as #!/bin/bash",
    ),
    (("Argument list too long",), "write the arguments to a file, and have the program read that"),
    (
        ("./", ": No such file or directory"),
        "a relative path is looked for in the workspace, where the run was started, on the task's node",
    ),
)
"""What to do where a line has these words; the first that fits."""
_KILL_HINT = (
    "sflow-ctl did not send it: the task itself, a person, the batch system or the kernel did; "
    "dmesg on the node may show more"
)
_ASKED_HINT = "sflow-ctl signal sent it; sflow-ctl events shows who asked for that"


class Evidence(Struct, frozen=True):
    """The evidence about an end. Exactly one of `exit_code` and `signal` is set."""

    exit_code: int | None
    signal: int | None
    found: ExplainingLine | None = None
    """The explaining line of the log."""
    found_number: int | None = None
    """That line's number, from 1."""
    tail: Sequence[str] = ()
    """The last lines of the log."""
    oom_kills: int = 0
    """Processes in the agent's cgroup that the kernel killed for lack of memory while the rank ran, not explained yet."""
    is_oom_victim: bool = False
    """The kernel's log names the rank's process."""
    memory_limit: str = ""
    """"4.0 GiB"; empty without a limit."""
    asked_signal: int | None = None
    """The last signal that an operator has sent to it."""


def is_asked_for_tracebacks(exit_code: int | None) -> bool:
    """Return whether an exception may be the cause: a process that a signal ended was not ended by one."""
    return exit_code is not None and exit_code - 128 not in _CRASHES


def cause_of(evidence: Evidence) -> ExitCause | None:
    """Return the most specific cause; None when the status or signal is the only evidence."""
    number = evidence.signal if evidence.signal is not None else (evidence.exit_code or 0) - 128
    found = evidence.found
    is_killed = number == _SIGKILL
    if evidence.signal is not None and evidence.signal == evidence.asked_signal:
        return ExitCause(word="signal", text="", hint=_ASKED_HINT)
    says_oom = found is not None and found.reason == "oom"
    if evidence.is_oom_victim or (evidence.oom_kills and (is_killed or says_oom)):
        limit = f"; the limit here is {evidence.memory_limit}" if evidence.memory_limit else ""
        return _with_line(
            "oom",
            f"out of memory: the kernel killed {'a process of it' if not is_killed else 'it'}{limit}",
            "give it more memory (the job's --mem, the container's limit) or let it use less",
            found if says_oom else None,
            evidence.found_number,
        )
    if evidence.signal in _FROM_OUTSIDE:
        hint = _KILL_HINT if is_killed else ""
        return ExitCause(word="signal", text="", hint=hint) if hint else None
    if evidence.exit_code in _NOT_STARTED:
        line = next((line for line in reversed(evidence.tail) if _LAUNCH_LINE.search(line)), None)
        if line is not None:
            shown = line.strip()[:SHOWN_CHARACTERS]
            hint = next(
                (hint for words, hint in _LAUNCH_HINTS if all(one in line for one in words)), _LAUNCH_HINT
            )
            return ExitCause(word="launch", text=shown, hint=hint, line=shown)
    if found is not None:
        return _with_line(
            found.reason, found.text[:SHOWN_CHARACTERS], found.hint, found, evidence.found_number
        )
    if evidence.signal is None and number in _CRASHES:
        hint = _KILL_HINT if is_killed else ""
        return ExitCause(
            word="signal", text=f"a program in it was probably killed by {signal_name(number)}", hint=hint
        )
    return None


def _with_line(
    word: str, text: str, hint: str, found: ExplainingLine | None, number: int | None
) -> ExitCause:
    if found is None:
        return ExitCause(word=word, text=text, hint=hint)
    return ExitCause(
        word=word, text=text, hint=hint, line=found.line, line_number=number, offset=found.offset
    )


def status_of(event: ProcessExited, *, is_stopped_step: bool) -> tuple[int | None, int | None]:
    """Return a rank's exit status or signal. `srun` says by 128 + number which signal has ended the tasks of a step."""
    if is_stopped_step and event.exit_code is not None and event.exit_code > 128:
        return None, event.exit_code - 128
    return event.exit_code, event.signal


def disk_full(lost_output: str) -> ExitCause | None:
    """Return the cause of a task whose output had no room, if it had none; `lost_output` says what is lost, and where."""
    if not lost_output:
        return None
    return ExitCause(word="disk_full", text=lost_output, hint="make room there, and run it again")


def lost_processes(end: ProcessExited, kills: int) -> Notice:
    """Return a warning about kills of the kernel during a rank that ended well."""
    text = (
        f"{end.rank} ended with status {end.exit_code}, but while it ran the kernel killed {kills} process(es) of this "
        "node's tasks for want of memory: what it has written may not be complete"
    )
    return Notice(level="warning", text=text)


def withdrawn(rank: RankId, why: str = "") -> LaunchFailed:
    """Return the report of a rank that was stopped before its process was made."""
    return LaunchFailed(rank=rank, errno=errno.EINTR, reason=f"it was stopped before it began{why}")


def launch_failed(event: ProcessFailed) -> LaunchFailed:
    """Return the report of a rank whose process could not be made."""
    return LaunchFailed(
        rank=event.rank, errno=event.errno, reason=event.reason, port_conflict=event.port_conflict
    )
