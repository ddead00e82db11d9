"""Ctrl-C while the program is still being imported."""

import subprocess
import sys

INTERRUPTED = """
import builtins
imported = builtins.__import__
def interrupt(name, *rest, **more):
    if name == "sflow_ctl.cli.program":
        raise KeyboardInterrupt
    return imported(name, *rest, **more)
builtins.__import__ = interrupt
from sflow_ctl.__main__ import main
main()
"""


def test_ux_02_ctrl_c_while_the_program_starts_prints_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", INTERRUPTED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == ""
