"""Reports of launchers about the process that failed."""

import pytest

from sflow_agent.core.launcher_failures import launcher_failure
from sflow_agent.core.log_reading import ExplainingLine, LogExcerpt, LogReader

TORCHRUN = """\
Traceback (most recent call last):
  File "/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_00:00:00
  host      : n07
  rank      : 1 (local_rank: 1)
  exitcode  : {status} (pid: 4123)
  error_file: <N/A>
  traceback : {trace}
============================================================
"""
MPICH = """\
===================================================================================
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   PID 4123 RUNNING AT n07
=   EXIT CODE: 11
===================================================================================
YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Segmentation fault (signal 11)
"""


@pytest.mark.parametrize(
    ("log", "reason", "text"),
    [
        (TORCHRUN.format(status=3, trace="To enable traceback see"), "exit", "rank 1 exited with status 3"),
        (TORCHRUN.format(status=-9, trace="Signal 9 (SIGKILL)"), "signal", "rank 1 was killed by SIGKILL"),
        (
            "".join(f"0: {line}\n" for line in TORCHRUN.format(status=-11, trace="x").splitlines()),
            "signal",
            "rank 1 was killed by SIGSEGV",
        ),
        (MPICH, "signal", "a rank was killed by SIGSEGV"),
        (
            "mpirun noticed that process rank 2 with PID 7 on node n exited on signal 9 (Killed).\n",
            "signal",
            "rank 2 was killed by SIGKILL",
        ),
        ("srun: error: n1: task 0: Exited with exit code 3\n", "exit", "rank 0 exited with status 3"),
        (
            "srun: error: n2: task 1: Terminated\nsrun: error: n1: task 0: Exited with exit code 3\n",
            "exit",
            "rank 0 exited with status 3",
        ),
        ("srun: error: n2: task 1: Killed\n", "signal", "rank 1 was killed by SIGKILL"),
        ("srun: error: n1: tasks 0-3: Bus error\n", "signal", "rank 0-3 was killed by SIGBUS"),
    ],
)
def test_l6_and_p12_the_rank_that_failed_is_named(log: str, reason: str, text: str) -> None:
    found = LogReader(()).explanation((LogExcerpt(0, log.encode()),), with_tracebacks=True)
    assert found is not None
    assert (found.reason, found.text) == (reason, text)
    assert found.line
    assert found.line in log


def test_l6_a_ranks_own_exception_wins() -> None:
    log = "Traceback (most recent call last):\n  File x\nValueError: bad\n" + TORCHRUN.format(
        status=1, trace="x"
    )
    found = LogReader(()).explanation((LogExcerpt(0, log.encode()),), with_tracebacks=True)
    assert found == ExplainingLine(
        "traceback", "ValueError: bad", "", "ValueError: bad", log.index("ValueError")
    )


@pytest.mark.parametrize(
    "log", ["", "EXIT STRING: none", "Root Cause (first observed failure):", "srun: error: x", "exitcode : 3"]
)
def test_other_lines_report_nothing(log: str) -> None:
    assert launcher_failure(log) is None


def test_p12_the_launcher_of_a_killed_step_is_asked() -> None:
    log = b"srun: error: n1: task 0: Exited with exit code 3\nsrun: error: n2: task 1: Killed\n"
    reader, pieces = LogReader(()), (LogExcerpt(0, log),)
    found = reader.explanation(pieces, with_tracebacks=False, is_step=True)
    assert found is not None
    assert found.text == "rank 0 exited with status 3"
    assert reader.explanation(pieces, with_tracebacks=False) is None  # a program of its own that was killed
