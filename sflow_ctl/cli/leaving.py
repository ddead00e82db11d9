"""Ends the process of a command. Called by `app`, once the exit status is known."""

import atexit
import contextlib
import os
import sys
import threading

from protocol.errors import ExitStatus
from protocol.machine.code_cache import update as update_code_cache
from sflow_ctl.runtime.agent_process import end_unused, take_early

_WITHIN_S = 5.0


def leave(status: int) -> None:
    """Exit with a status; never returns.

    The interpreter's own end takes 10 to 20 ms, to free memory that the kernel frees anyway. It is left to the
    interpreter where threads have to be waited for. Output that cannot be written is an error, unless there was another one.
    """
    end_unused(take_early(), _WITHIN_S)  # the command has ended before it knew of its agent
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (BrokenPipeError, ValueError):
            continue  # its reader has left, or it is closed
        except OSError as error:
            from sflow_ctl.cli.terminal.lines import OutputLostError, print_line  # few outputs are lost

            if status == 0:
                status = int(ExitStatus.INFRASTRUCTURE)
                with contextlib.suppress(OSError, OutputLostError):
                    print_line(f"error[output-not-written]: cannot write the output: {error}", err=True)
    update_code_cache()
    os._exit(status)
