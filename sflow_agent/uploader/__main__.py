"""Entry point: `python -I -X utf8 -m sflow_agent.uploader`, with an `UploadJob` as JSON on standard input.

Prints `UploadLine`s. SIGTERM ends it in order: parts that were sent are taken back, and the last line says what is
done. Started by `runner`, in the agent, and by the controller for the archive of a run.
"""

import contextlib
import os
import signal
import sys
from types import FrameType

import msgspec

from protocol.messages.uploads import UploadEnd, UploadJob, UploadLine, limited
from sflow_agent.uploader.program import EndedError, upload

NICENESS = 10
"""The next task on this node comes first."""


def main() -> None:
    """Read the job, do it, print the outcome. The exit status is 0 also when uploads have failed."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=UploadJob)
    outcome = upload(job, _print)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _print(UploadEnd(outcome=limited(outcome)))
    sys.stdout.flush()
    os._exit(0)  # threads of a library are not waited for


def _end(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: the way out must not be cut off
    raise EndedError


def _print(line: UploadLine) -> None:
    os.write(1, msgspec.json.encode(line) + b"\n")


if __name__ == "__main__":
    main()
