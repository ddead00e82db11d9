"""Ends the process of a command. Called by `app`, once the exit status is known."""

import atexit
import os
import sys
import threading

from sflow_ctl.runtime.agent_process import end_unused, take_early

_WITHIN_S = 5.0


def leave(status: int) -> None:
    """Exit with a status; never returns.

    The interpreter's own end takes 10 to 20 ms, to free memory that the kernel frees anyway. It is left to the
    interpreter where it has something to do: it waits for threads, and reports output that cannot be written.
    """
    end_unused(take_early(), _WITHIN_S)  # the command has ended before it knew of its agent
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.exit(status)
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(status)
    os._exit(status)
