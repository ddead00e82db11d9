"""Imports our modules without most of what Python's import system does for each: a fifth of the time that importing them takes.

Python takes locks against other threads, asks its finders, and looks at each package's contents. A program that has just started
has one thread, and the code of all of our modules in one file (`code_cache.py`). So `import` statements of our modules make a
module and execute its code, in the same order and with the same attributes. Everything else is left to Python: other modules,
relative imports, modules without an entry in that file, and all of them once there is a second thread.
"""

import _thread
import builtins
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocol.machine.code_cache import CodeCache

OURS = ("sflow_ctl", "sflow_agent", "protocol")


class QuickImport:
    """In the place of `builtins.__import__` until `end`, or until it sees a second thread."""

    def __init__(self, cache: "CodeCache") -> None:
        self._cache = cache
        self._original = builtins.__import__
        self._threads = _thread._count()

    def begin(self) -> None:
        """Carry out the `import` statements of this process from here on."""
        builtins.__import__ = self

    def end(self) -> None:
        """Leave all imports to Python again, if nothing else has taken the place since."""
        if builtins.__import__ is self:
            builtins.__import__ = self._original

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import a module, as `builtins.__import__` does."""
        if not level:
            module: ModuleType | None = sys.modules.get(name)
            if module is None and name.partition(".")[0] in OURS:
                module = self._load(name)
            if module is not None and fromlist:
                known = module.__dict__
                if all(one in known for one in fromlist):
                    return module
        return self._original(name, globals, locals, fromlist, level)

    def _load(self, name: str) -> ModuleType | None:
        """Return the module, imported now after its packages; None leaves it to Python."""
        if _thread._count() != self._threads:
            self.end()
            return None
        package, _, last = name.rpartition(".")
        if package and package not in sys.modules and self._load(package) is None:
            return None
        imported: ModuleType | None = sys.modules.get(name)  # by its package
        if imported is not None:
            return imported
        spec = self._cache.find_spec(name)
        code = None if spec is None else self._cache.code(name)
        if spec is None or code is None:
            return None
        module = _made(spec)
        sys.modules[name] = module
        spec._initializing = True  # type: ignore[attr-defined]  # for the message about an import in a circle
        try:
            exec(code, module.__dict__)  # noqa: S102 - what an import is
        except BaseException:
            sys.modules.pop(name, None)
            raise
        finally:
            spec._initializing = False  # type: ignore[attr-defined]
        module = sys.modules[name]
        if package:
            setattr(sys.modules[package], last, module)
        return module


def _made(spec: ModuleSpec) -> ModuleType:
    """Return a module with the attributes that Python gives one. Source: importlib, `_init_module_attrs`."""
    module = ModuleType(spec.name)
    attributes: dict[str, Any] = module.__dict__
    attributes["__spec__"], attributes["__loader__"] = spec, spec.loader
    attributes["__file__"], attributes["__cached__"] = spec.origin, spec.cached
    attributes["__package__"] = spec.parent
    if spec.submodule_search_locations is not None:
        attributes["__path__"] = spec.submodule_search_locations
    return module
