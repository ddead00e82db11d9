"""The code of all modules in one file beside Python's own caches: opening it once is cheaper than finding hundreds of files.

A module's entry holds what its `.pyc` holds, and counts for as long as the `.pyc` would: while its source has the same size and
time of change. Python does the rest: modules without an entry, entries that are out of date, a file that cannot be read.
The entry points call `install` before they import anything else. `code_cache_writer.py` makes the file.
"""

import marshal
import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source
from types import CodeType

from protocol.machine.quick_import import QuickImport

FORMAT = 2
LENGTH_BYTES = 8
UNREADABLE = (OSError, EOFError, ValueError, TypeError)
"""What reading a file or code of it raises if there is none, or it is damaged."""

Entry = tuple[str, str, bool, int, int, int, int]
"""Path of the source, that of Python's own cache of it, whether it is a package, time of change (ns) and size of the source,
offset and length of the code."""


class CodeCache:
    """A finder for `sys.meta_path` that takes code from one open file."""

    def __init__(self, path: str) -> None:
        """Open the file; without one that this interpreter and installation can use, nothing has an entry."""
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.is_outdated = False
        """An entry could not be used."""
        self._file = -1
        self._start = 0
        try:
            self._file = _opened(path)
            length = int.from_bytes(os.pread(self._file, LENGTH_BYTES, 0), "little")
            made_by, entries = marshal.loads(os.pread(self._file, length, LENGTH_BYTES))
        except UNREADABLE:
            return
        if made_by == maker():
            self.entries, self._start = entries, LENGTH_BYTES + length

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Return how to load a module with its code from here; None leaves it to the other finders."""
        entry = self.entries.get(name)
        if entry is None:
            return None
        source, cached, is_package, changed_ns, size, _, _ = entry
        if state_of(source) != (changed_ns, size):
            self.is_outdated = True
            return None
        # As spec_from_file_location makes it, in a tenth of the time: `cached` is known.
        spec = ModuleSpec(name, _Loader(name, source, self), origin=source)
        spec.has_location = True
        spec.cached = cached
        if is_package:
            spec.submodule_search_locations = [source.rpartition(os.sep)[0]]
        return spec

    def code(self, name: str) -> CodeType | None:
        """Return the code of a module that has an entry; None if the file is damaged."""
        *_, offset, length = self.entries[name]
        try:
            code = marshal.loads(os.pread(self._file, length, self._start + offset))
        except UNREADABLE:
            code = None
        if isinstance(code, CodeType):
            return code
        self.is_outdated = True
        return None

    def has_gaps(self) -> bool:
        """Return whether this process has imported modules that had no entry, or one that could not be used."""
        return self.is_outdated or any(name not in self.entries for name in imported_modules())


def _opened(path: str) -> int:
    """Open a file for as long as the process lives. Raises: OSError, also if its number would be that of a standard stream."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if file <= 2:
        os.close(file)
        raise OSError(path)
    return file


class _Loader(SourceFileLoader):
    """Python's own loader, but for the origin of the code."""

    def __init__(self, name: str, path: str, cache: CodeCache) -> None:
        super().__init__(name, path)
        self._cache = cache

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the module's code."""
        return self._cache.code(fullname) or super().get_code(fullname)


_installed: CodeCache | None = None
_quick: QuickImport | None = None


def install() -> None:
    """From here on, take the code of modules from the cache of this installation, and import ours quickly until `settle`."""
    global _installed, _quick
    if sys.implementation.cache_tag is None:
        return  # an interpreter without caches
    _installed = CodeCache(place())
    sys.meta_path.insert(0, _installed)
    if _installed.entries:
        _quick = QuickImport(_installed)
        _quick.begin()


def settle() -> None:
    """Leave all imports to Python from here on: called where a process has what it needs, and before it starts threads."""
    if _quick is not None:
        _quick.end()


def update() -> None:
    """Write the cache anew if it has gaps, unless Python may not write its own caches either; called at the end of a command."""
    if _installed is not None and not sys.dont_write_bytecode and _installed.has_gaps():
        from protocol.machine.code_cache_writer import fill_gaps  # hardly ever needed

        fill_gaps(_installed)


def imported_modules() -> dict[str, ModuleSpec]:
    """Return the modules of this process that are sources of the installation: of Python, or beside us."""
    places = tuple(f"{place}{os.sep}" for place in (home(), sys.prefix, sys.base_prefix))
    return {
        name: spec
        for name, module in [*sys.modules.items()]
        if (spec := getattr(module, "__spec__", None)) is not None
        and isinstance(spec.loader, SourceFileLoader)
        and spec.name == name
        and str(spec.origin).startswith(places)
    }


def maker() -> tuple[int, bytes, str, str, str]:
    """Return what a cache must have been made by to be used: a copied installation has paths of its own."""
    return FORMAT, MAGIC_NUMBER, sys.prefix, sys.base_prefix, home()


def home() -> str:
    """Return the directory that our packages are in."""
    return os.path.abspath(__file__).rsplit(os.sep, 3)[0]  # noqa: PTH100 - pathlib is not imported here


def place() -> str:
    """Return the path of this installation's cache, named as Python names its own. Raises: NotImplementedError."""
    return cache_from_source(f"{home()}/protocol/machine/all_modules.py").removesuffix("pyc") + "cache"


def state_of(source: str) -> tuple[int, int] | None:
    """Return a file's time of change (ns) and size; None if there is none."""
    try:
        found = os.stat(source)  # noqa: PTH116
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
