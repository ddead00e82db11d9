"""prctl(2), which the standard library lacks, without `ctypes`: that takes 2 ms in each of the processes of a run."""

import _ctypes
import errno

SET_DUMPABLE, SET_CHILD_SUBREAPER = 4, 36
"""Source: linux/prctl.h."""


def set_option(option: int, value: int) -> None:
    """Set an option of this process, one of the above, to a number. Raises: OSError."""
    program = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    address = _ctypes.dlsym(program, "prctl")
    if _ctypes.call_function(address, (option, value, 0, 0, 0)) != 0:
        raise OSError(errno.EINVAL, f"prctl({option}, {value})")  # the only error that these options have


def hide_memory() -> None:
    """Keep this process's memory, environment and descriptors from other processes of the same user, its tasks included.

    Programs that it starts are not affected. It leaves no core file, and debuggers of the same user cannot attach.
    Raises: OSError.
    """
    set_option(SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Have processes below this one come to it, not to init, when their parents die. Raises: OSError."""
    set_option(SET_CHILD_SUBREAPER, 1)
