"""Regular expressions that are compiled when they are first used, not when their module is imported.

A run imports about two hundred modules and uses few of their patterns; compiling all of them took a tenth of the
time in which a small run starts. Modules of all packages define their patterns with it.
"""

import re
from typing import Any, AnyStr, cast

_METHODS = ("search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn")


class _LazyPattern:
    """Stands for a compiled pattern. Its methods become those of the compiled one at the first use of any of them."""

    __slots__ = ("_flags", "_source", *_METHODS)

    def __init__(self, source: Any, flags: int) -> None:
        self._source, self._flags = source, flags

    def __getattr__(self, name: str) -> Any:
        # Called only for what is not set yet.
        compiled = re.compile(self._source, self._flags)
        for method in _METHODS:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def lazy_pattern(source: AnyStr, flags: int = 0) -> "re.Pattern[AnyStr]":
    """Return an object with the methods and attributes of `re.compile(source, flags)`, which is called at the first use.

    Call its methods: the functions of `re` do not accept it as an argument.
    """
    return cast("re.Pattern[AnyStr]", _LazyPattern(source, flags))
