"""Makes a new directory, named by the time, for the files that one call of a command writes."""

import time
from pathlib import Path

from protocol.errors import RunDirectoryError

_TRIES = 100


def stamped_directory(parent: Path, prefix: str) -> Path:
    """Make `<parent>/<prefix>_<date>-<time>`, with a number added if that exists.

    Raises: RunDirectoryError.
    """
    name = f"{prefix}_{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for count in range(1, _TRIES):
            path = parent / (name if count == 1 else f"{name}-{count}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        in_the_way = next((one for one in (parent, *parent.parents) if one.is_file()), None)
        what = f"cannot make a directory in {parent}: {error.strerror or error}"
        if in_the_way is not None:
            what = f"{in_the_way} is a file, not a directory"
        raise RunDirectoryError.of("directory-not-writable", what, str(parent), "choose another") from error
    raise RunDirectoryError.of("directory-exists", f"{parent / name} exists already", hint="try again")
