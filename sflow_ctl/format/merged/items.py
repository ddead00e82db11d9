"""Entries of named sections with the places of their fields, also where several files have a part of one entry.

Made by `files`; the loader, presets, overrides and the assembly read and change bodies.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from msgspec import Struct

from sflow_ctl.format.field_lookup import dotted
from sflow_ctl.format.yaml_source import PathKey, Source

Path = tuple[PathKey, ...]
NOTHING: Mapping[Path, str] = MappingProxyType({})
"""Nearly every entry of a file of 100,000 tasks has none: they share this."""


class FilePart(Struct, frozen=True):
    """One file's part of an entry."""

    source: Source
    path: Path
    is_shorthand: bool = False

    def path_of(self, path: Path) -> Path:
        """Return the path in the file of a field of the entry."""
        return self.path if self.is_shorthand else (*self.path, *path)

    def has(self, path: Path) -> bool:
        """Return True if this file has the field."""
        return path == ("value",) if self.is_shorthand else self.source.has((*self.path, *path))


class Item(Struct):
    """One entry of a named section: its body with its name, and the place of its text."""

    name: str
    body: dict[str, Any]
    source: Source
    path: Path
    is_shorthand: bool = False
    given: Mapping[Path, str] = NOTHING
    """Fields whose values are the command line's, with the option that gave them."""
    later: tuple[FilePart, ...] = ()
    """Further files' parts of the entry, in order."""
    required_by: tuple[str, ...] = ()
    """Tasks whose `required_by` names this one, and which it does not wait for yet."""

    def note_given(self, path: Path, option: str) -> None:
        """Note the option, or the place, that gave a field its value."""
        if not self.given:
            self.given = {}
        cast("dict[Path, str]", self.given)[path] = option

    @property
    def layers(self) -> tuple[FilePart, ...]:
        """Return every file's part of the entry, in order."""
        return (FilePart(self.source, self.path, self.is_shorthand), *self.later)

    def where(self, *path: PathKey) -> str:
        """Return `file:line:column  section.name.field` for a message, or the option that gave the field."""
        for length in range(1, len(path) + 1):
            if path[:length] in self.given:
                return f"{self.given[path[:length]]}  {dotted((*self.path, *path))}"
        is_value = self.is_shorthand and not self.later
        full = (*self.path, *(() if is_value else path))
        return f"{self.place(full)}  {dotted(full)}"

    def place(self, full: Sequence[PathKey]) -> str | None:
        """Return `file:line:column` of a path that begins with the entry's own, in the file whose value counts."""
        path = tuple(full)[len(self.path) :]
        for length in range(1, len(path) + 1):
            if path[:length] in self.given:
                return self.given[path[:length]]
        layer = self.layer_of(path)
        return layer.source.where(layer.path_of(path))

    def layer_of(self, path: Path) -> FilePart:
        """Return the part of the entry that a field's value is from: mappings are merged, all else is the last file's."""
        if not self.later:
            return self.layers[0]
        candidates = self.layers
        for length in range(1, len(path) + 1):
            having = tuple(one for one in candidates if one.has(path[:length]))
            if not having:
                break
            last = having[-1]
            is_mapping = not last.is_shorthand and last.source.is_mapping((*last.path, *path[:length]))
            candidates = having if is_mapping else (last,)
        return candidates[-1]
