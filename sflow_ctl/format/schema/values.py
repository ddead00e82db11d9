"""The base class and the kinds of value that fields of the format share.

A field's docstring is its description in editors, in `docs/reference/format.md` and in explanations: see
`format/reference/fields.py`, which reads them from the source.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

VERSION = "0.1"
"""The only version of the format."""

IntExpr: TypeAlias = int | float | str
"""An integer, an integral float, its text, or an expression; converted when planned."""
Time: TypeAlias = Annotated[int | float | str, Meta(extra={"kind": "duration"})]
"""Seconds, fractions included, or a duration such as `250ms`, `90s`, `10m`, `1h30m`, `01:30:00`, `1-12:00:00`."""
Flag: TypeAlias = bool | str
"""A boolean, its text, or an expression."""
ONE = Meta(extra={"short": "one"})
"""A list that may also be given as its only entry."""
REGEXES = Meta(extra={"short": "regexes"})
"""A mapping that may also be a mapping from names to regular expressions."""
COUNT = Meta(extra={"short": "count"})
"""A mapping that may also be given as its `count`."""
ITEMS = Meta(extra={"short": "items"})
"""A mapping that may also be given as its `items`."""


VALUES = Meta(extra={"short": "values"})
"""A mapping whose entries may also be given by a value alone."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every mapping in a file."""
