"""Entry point of `sflow-ctl` and `python -m sflow_ctl`: prepares the interpreter, then calls the command line.

Everything of ours is imported after `prefer_installation`, inside `main`.
"""

import os
import sys

from sflow_ctl.import_path import prefer_installation


def main() -> None:
    """Run the command line. Never returns."""
    if sys.getfilesystemencoding() != "utf-8":
        # Workflows, logs and messages are UTF-8 whatever the locale is; Python takes this option only at its start.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    prefer_installation()
    try:
        from sflow_ctl.cli.app import main as run_command
    except KeyboardInterrupt:
        sys.exit(128 + 2)  # nothing has begun: no traceback for an early Ctrl-C

    run_command()


if __name__ == "__main__":
    main()
