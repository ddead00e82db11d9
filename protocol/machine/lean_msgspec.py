"""Imports msgspec for programs that must start fast. Called by the entry points before anything imports it."""

import sys


def import_msgspec() -> None:
    """Import msgspec without typing_extensions, which it uses where that is installed, for what Python has had since 3.11.

    With the modules that it imports in turn, such as `inspect` and `ast`, that is a third of the time of importing msgspec.
    Source: the import system, "The module cache": None there makes an import fail as if there were no such module.
    """
    if "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]
