"""Puts this installation's modules before modules of the same name on PYTHONPATH or in the working directory.

Called by `__main__.py` before anything else of ours is imported; imports nothing but what the interpreter has loaded
already. The environment stays as it is: tasks get the user's PYTHONPATH unchanged.
"""

import os
import sys


def prefer_installation() -> None:
    """Move the entries of PYTHONPATH, and the working directory of `python -m`, to the end of `sys.path`.

    Users set PYTHONPATH for their tasks. A `protocol`, `click` or `yaml` that they have there must not be imported in
    place of ours. Entries are moved, not removed: this program may itself be installed in one of them.
    """
    given = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if sys.flags.ignore_environment:
        given = []
    here = os.getcwd()
    if sys.path and sys.path[0] in ("", here):
        given.append(here)
    if os.environ.get("PYTHONPATH") and not all(os.environ["PYTHONPATH"].split(os.pathsep)):
        given.append(here)  # an empty entry
    if not given:
        return
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    moved = [entry for entry in sys.path if os.path.abspath(entry) in given]
    kept = [entry for entry in sys.path if os.path.abspath(entry) not in given]
    if home in kept:
        sys.path[:] = [*kept, *moved]
    else:  # an editable installation, or one in an entry of PYTHONPATH
        sys.path[:] = [*kept, home, *(entry for entry in moved if os.path.abspath(entry) != home)]
