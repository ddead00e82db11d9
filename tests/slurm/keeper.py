"""A program of its own: `python keeper.py DIRECTORY`, the first process of a cluster's outer PID namespace.

When its standard input closes, it ends everything in the cluster and removes the directory: the other
end is a pipe that only the cluster's owner holds, so that nothing outlives an owner that was killed.
With a killed keeper the kernel ends everything, and only the directory is left.
"""

import os
import shutil
import signal
import sys


def main(directory: str) -> None:
    """Returns when the owner is gone and the cluster too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    os.kill(-1, signal.SIGKILL)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
