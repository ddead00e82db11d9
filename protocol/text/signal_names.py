"""Signal numbers and names, for messages and files. A table because pure modules import no `signal`, and agents are
all Linux.
"""

_NAMES = dict(
    enumerate(
        (
            "SIGHUP",
            "SIGINT",
            "SIGQUIT",
            "SIGILL",
            "SIGTRAP",
            "SIGABRT",
            "SIGBUS",
            "SIGFPE",
            "SIGKILL",
            "SIGUSR1",
            "SIGSEGV",
            "SIGUSR2",
            "SIGPIPE",
            "SIGALRM",
            "SIGTERM",
            "SIGSTKFLT",
            "SIGCHLD",
            "SIGCONT",
            "SIGSTOP",
            "SIGTSTP",
            "SIGTTIN",
            "SIGTTOU",
            "SIGURG",
            "SIGXCPU",
            "SIGXFSZ",
            "SIGVTALRM",
            "SIGPROF",
            "SIGWINCH",
            "SIGIO",
            "SIGPWR",
            "SIGSYS",
        ),
        start=1,
    )
)


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 40` for one without a name. Source: signal(7), x86 and Arm."""
    return _NAMES.get(number, f"signal {number}")


NUMBERS = {name: number for number, name in _NAMES.items()}


def signal_number(text: str) -> int | None:
    """15 for `SIGTERM`, `term` or `15`; None for what is no signal."""
    word = text.strip().upper()
    if word.isdecimal():
        return int(word) if 1 <= int(word) <= 64 else None
    return NUMBERS.get(word if word.startswith("SIG") else f"SIG{word}")
