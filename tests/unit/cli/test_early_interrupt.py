"""Ctrl-C while the program is still being imported."""

import subprocess
import sys

INTERRUPTED = """
from protocol.machine import lean_msgspec
def interrupt():
    raise KeyboardInterrupt
lean_msgspec.import_msgspec = interrupt
from sflow_ctl.__main__ import main
main()
"""


def test_ux_02_ctrl_c_while_the_program_starts_prints_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", INTERRUPTED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == ""
