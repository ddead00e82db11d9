"""Holds an allocation for a controller, in a separate process.

When the controller's end of the pipe closes, for whatever reason, the job is cancelled. Started as `python -I
-m sflow_ctl.runtime.slurm.allocation_guard SALLOC...`.

Prints `job ID` as soon as the id is known, then `granted`, or `failed` and salloc's message.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys

from protocol.text.lazy_pattern import lazy_pattern

_JOB = lazy_pattern(r"(?:Pending|Granted|Relinquishing) job allocation (\d+)")
_KEPT_BYTES = 4000
_CANCEL_WITHIN_S = 60.0


def main() -> int:
    """Run until the controller is gone or salloc has failed."""
    with contextlib.suppress(PermissionError):
        os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        # Only the end of the pipe counts. Not SIG_IGN, which salloc would inherit.
        signal.signal(number, lambda *_: None)
    salloc = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert salloc.stderr is not None
    job = _watch(salloc, salloc.stderr.fileno())
    if salloc.poll() is None:
        salloc.terminate()  # salloc withdraws a pending request
        with contextlib.suppress(subprocess.TimeoutExpired):
            salloc.wait(_CANCEL_WITHIN_S)
    if job is not None:
        subprocess.run(
            ["scancel", job],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CANCEL_WITHIN_S,
        )
    return 0


def _watch(salloc: "subprocess.Popen[bytes]", stderr: int) -> str | None:
    """Wait until the controller closes the pipe; return the job to cancel, if there is one."""
    said = b""
    job: str | None = None
    descriptors = [0, stderr]
    while True:
        ready, _, _ = select.select(descriptors, [], [])
        if stderr in ready:
            data = os.read(stderr, 4096)
            said = (said + data)[-_KEPT_BYTES:]
            match = _JOB.search(said.decode(errors="replace"))
            if match is not None and job is None:
                job = match[1]
                _say(f"job {job}")
            if not data:
                descriptors.remove(stderr)
                if salloc.wait() == 0 and job is not None:
                    _say("granted")
                else:
                    _say(f"failed {said.decode(errors='replace').strip()}")
        if 0 in ready and not os.read(0, 64):
            return job


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the reader has gone; stdin will show it
        os.write(1, text.replace("\n", "; ").encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
