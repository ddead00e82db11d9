"""Entry point of `sflow-ctl` and `python -m sflow_ctl`: prepares the interpreter, then calls the command line.

Everything of ours is imported after `prefer_installation`, inside `main`.
"""

import gc
import os
import signal
import sys

from sflow_ctl.import_path import prefer_installation


def main() -> None:
    """Run the command line. Never returns."""
    if sys.getfilesystemencoding() != "utf-8":
        # Workflows, logs and messages are UTF-8 whatever the locale is; Python takes this option only at its start.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    leave_at_interrupts()
    prefer_installation()
    open_standard_descriptors()
    gc.disable()  # until the command is imported: cli/importing.py has the reason
    try:
        from protocol.machine.code_cache import install

        install()
        if "--detach" in sys.argv:
            from sflow_ctl.runtime.supervision.detaching import detach, detaches

            if detaches(sys.argv[1:]):
                detach()
        is_first = begin_supervised()
        if is_first:
            from sflow_ctl.runtime.agent_process import start_early

            start_early(sys.argv[1:], os.environ)
        from protocol.machine.lean_msgspec import import_msgspec

        import_msgspec()
        from sflow_ctl.cli.program import main as run_command
    except KeyboardInterrupt:
        sys.exit(128 + 2)  # nothing has begun: no traceback for an early Ctrl-C
    if sys.argv[1:2] != ["run"] and signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a run replaces it once something has begun
    run_command()


def leave_at_interrupts() -> None:
    """Have Ctrl-C end this process at once, while nothing has begun.

    KeyboardInterrupt would be lost where Python or a library ignores exceptions, as in callbacks of the import system.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, _frame: object) -> None:
    os._exit(128 + number)


def begin_supervised() -> bool:
    """Become the supervisor of a run, and return in the process of its controller; return whether it is the run's first one.

    Other commands have no supervisor, nor has a run where there can be no other process.
    """
    from sflow_ctl.runtime.supervision.supervisor import begins_run, supervise

    if not begins_run(sys.argv[1:]):
        return True
    try:
        birth = supervise()
    except OSError:
        return True
    from sflow_ctl.runtime.supervision.lifeline import begin

    begin(birth)
    return birth.death is None


def open_standard_descriptors() -> None:
    """Open /dev/null where the caller has closed standard input, output or error.

    No file of ours gets their numbers then, and what is printed there is unwanted, not an error.
    """
    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            name = ("stdin", "stdout", "stderr")[number]
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - open as long as we run


if __name__ == "__main__":
    main()
