"""`sflow-ctl` and `python -m sflow_ctl`."""

import os
import sys

from sflow_ctl.cli.app import main as run_command


def main() -> None:
    """Entry point. Never returns."""
    if sys.getfilesystemencoding() != "utf-8":
        # Workflows, logs and messages are UTF-8, whatever the locale can say; only from its start on Python can be told so.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    run_command()


if __name__ == "__main__":
    main()
