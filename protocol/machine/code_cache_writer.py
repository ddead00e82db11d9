"""Makes the file of `code_cache.py` from Python's own caches. Called by commands that have ended.

Modules of agents get entries although no command imports them, and agents write nothing: a thousand of them may start from
one shared directory.
"""

import contextlib
import marshal
import os
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER, cache_from_source

from protocol.machine.code_cache import (
    LENGTH_BYTES,
    CodeCache,
    Entry,
    home,
    imported_modules,
    maker,
    state_of,
)

AGENTS = "sflow_agent"
_HEADER_BYTES = 16
"""Of a `.pyc`: magic number, flags, time of change in seconds and size of the source. Source: PEP 552."""
_UNSIGNED = 0xFFFFFFFF

Sources = dict[str, tuple[str, bool]]
"""Module: path of its source, and whether it is a package."""


def fill_gaps(cache: CodeCache) -> None:
    """Write the cache anew if Python has cached code that it lacks. Of two processes that do so at once, the last one wins."""
    imported = _imported()
    lacking = [source for name, (source, _) in imported.items() if _is_old(cache, name)]
    if not any(map(_compiled, lacking)):
        return
    known: Sources = {
        name: (source, is_package) for name, (source, _, is_package, *_) in cache.entries.items()
    }
    with contextlib.suppress(OSError):  # the administrator's directory, or a full disk
        write(cache.path, known | _agents() | imported)


def write(path: str, sources: Sources) -> None:
    """Write a cache of the modules of which Python has cached the code. Raises: OSError; the old file is still there then."""
    entries: dict[str, Entry] = {}
    codes: list[bytes] = []
    offset = 0
    for name, (source, is_package) in sources.items():
        state = state_of(source)  # before the code is read: a later change makes the entry old
        code = _compiled(source)
        if state is None or code is None:
            continue
        entries[name] = (source, cache_from_source(source), is_package, *state, offset, len(code))
        codes.append(code)
        offset += len(code)
    index = marshal.dumps((maker(), entries))
    temporary = f"{path}.{os.getpid()}"
    mode = os.stat(__file__).st_mode & 0o666  # noqa: PTH116 - as Python does with its own
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(file, "wb") as stream:  # noqa: PTH123
            stream.write(len(index).to_bytes(LENGTH_BYTES, "little"))
            stream.write(index)
            stream.writelines(codes)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError:
        os.unlink(temporary)  # noqa: PTH108
        raise


def _imported() -> Sources:
    return {
        name: (str(spec.origin), spec.submodule_search_locations is not None)
        for name, spec in imported_modules().items()
    }


def _agents() -> Sources:
    """Return all modules of the agents' package."""
    return dict(_modules_in(f"{home()}/{AGENTS}", AGENTS))


def _modules_in(directory: str, package: str) -> Iterator[tuple[str, tuple[str, bool]]]:
    with os.scandir(directory) as found:
        for one in found:
            name, dot, kind = one.name.partition(".")
            if one.is_dir() and name.isidentifier() and name != "__pycache__":
                yield from _modules_in(one.path, f"{package}.{name}")
            elif (dot, kind) == (".", "py") and name == "__init__":
                yield package, (one.path, True)
            elif (dot, kind) == (".", "py") and name != "__main__":
                yield f"{package}.{name}", (one.path, False)


def _is_old(cache: CodeCache, name: str) -> bool:
    """Return whether a module has no entry, or one of another source."""
    entry = cache.entries.get(name)
    return entry is None or state_of(entry[0]) != entry[3:5]


def _compiled(source: str) -> bytes | None:
    """Return the code that Python has cached of a source, as it is cached; None if there is none for this source."""
    state = state_of(source)
    try:
        with open(cache_from_source(source), "rb") as file:  # noqa: PTH123
            header, code = file.read(_HEADER_BYTES), file.read()
    except OSError:
        return None
    if state is None:
        return None
    changed_ns, size = state
    flags, changed_s, stated_size = (int.from_bytes(header[at : at + 4], "little") for at in (4, 8, 12))
    is_of_source = (changed_s, stated_size) == (changed_ns // 10**9 & _UNSIGNED, size & _UNSIGNED)
    return code if header[:4] == MAGIC_NUMBER and flags == 0 and is_of_source else None
