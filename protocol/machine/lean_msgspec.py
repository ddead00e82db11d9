"""Imports msgspec for programs that must start fast. Called by the entry points before anything imports it."""

import sys
from types import ModuleType

_RARE = ("msgspec.inspect", "msgspec._json_schema")
"""Modules that describe types; only what writes a JSON Schema uses them."""
_TAKEN = ("schema", "schema_components")


def import_msgspec() -> None:
    """Import msgspec without what none of our messages needs: half of the time that importing it takes.

    * typing_extensions, with `inspect` and `ast`: Python has had what it takes from there since 3.11.
    * uuid and decimal, with `platform`: no message has a field of these types.
    * its modules that describe types are imported when something is taken from them.

    Source: the import system, "The module cache": None there makes an import fail as if there were no such module.
    """
    if "msgspec" in sys.modules:
        return
    # msgspec 0.23 imports it in C and ignores a failure: Ctrl-C in that moment would be lost, and its first decoder crash.
    import datetime  # noqa: F401

    stand_ins: dict[str, ModuleType | None] = {
        "uuid": _with("uuid", "UUID", "SafeUUID"),
        "decimal": _with("decimal", "Decimal"),
        "typing_extensions": None,
    }
    given = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(given)  # type: ignore[arg-type]
    late = {name: _Late(name) for name in _RARE}
    for function in _TAKEN:  # by msgspec itself, at once
        setattr(late["msgspec._json_schema"], function, _LateFunction("msgspec._json_schema", function))
    sys.modules.update(late)
    try:
        import msgspec
    except Exception:  # noqa: BLE001 - another version of it may need more
        for name in [name for name in sys.modules if name.partition(".")[0] == "msgspec"]:
            del sys.modules[name]
    finally:
        for name in given:
            del sys.modules[name]
    import msgspec  # noqa: F401 - it is there, or is imported as usual


class _Late(ModuleType):
    """Stands for a module until something is taken from it that is not there yet."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


class _LateFunction:
    """Stands for a function of such a module."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *args: object, **given: object) -> object:
        return getattr(_real(self._module), self._name)(*args, **given)


def _real(name: str) -> ModuleType:
    """Import a module in the place of what stands for it."""
    import importlib

    if isinstance(sys.modules.get(name), _Late):
        for rare in _RARE:
            if isinstance(sys.modules.get(rare), _Late):
                del sys.modules[rare]
    return importlib.import_module(name)


def _with(name: str, *types: str) -> ModuleType:
    """Return a module with types of which there is no value."""
    made = ModuleType(name)
    for one in types:
        setattr(made, one, type(one, (), {"unknown": None}))
    return made
