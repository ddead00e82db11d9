"""Entry point of `sflow-agent` and `python -I -m sflow_agent`. Started by launchers, not by users.

Our other modules are imported inside `main`, once the user's modules cannot be imported in their place.
"""

import gc
import os
import sys


def main() -> None:
    """Run the guardian, which starts the agent. Never returns."""
    if not sys.flags.isolated:
        # Only for `sflow-agent` typed by hand: modules on PYTHONPATH must not be imported in place of ours.
        options = [sys.executable, "-I", "-X", "utf8", "-m", "sflow_agent"]
        os.execv(sys.executable, [*options, *sys.argv[1:]])
    gc.disable()  # until the agent has imported everything: looking for garbage among modules costs a tenth
    from protocol.machine.code_cache import install

    install()
    from sflow_agent.guarding.guardian import guard

    status = guard()
    try:
        sys.stderr.flush()
    finally:
        os._exit(status)  # the interpreter's own end takes 5 to 15 ms, for which the controller would wait


if __name__ == "__main__":
    main()
