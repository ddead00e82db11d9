"""Named things that a file defines for its tasks: variables, artifacts, failure signatures."""

from typing import Any

from sflow_ctl.format.schema.values import Part


class Variable(Part, frozen=True, kw_only=True):
    """A named value, for expressions and for the environment of tasks."""

    name: str
    """Name in expressions (`${{ NAME }}`) and in the environment (`$NAME`). In the mapping form the key is the name."""
    value: Any
    """Value, which may contain expressions over other variables. In the mapping form a variable may be its value alone."""
    type: str | None = None
    """Type to convert the value to: `string`, `integer`, `float`, `boolean`, `list` or `dict` (`str`, `int` and `bool` also
    work). Without it, the value keeps the type it has in the file."""
    domain: list[Any] | None = None
    """Values that the variable may take. `replicas.variables` makes one replica per value, for example `[1, 2, 4]`."""
    description: str | None = None
    """Text for readers; it has no effect."""


class Artifact(Part, frozen=True, kw_only=True):
    """A named file, directory or remote object that tasks use through its path."""

    name: str
    """Name in expressions (`${{ artifacts.NAME.path }}`) and in the environment of tasks (`$NAME`)."""
    uri: str
    """Location: `fs://PATH` (must exist), `file://PATH` (may be written), `http://` or `https://` (downloaded once),
    `hf://ORG/NAME` (from the Hugging Face hub), `docker://IMAGE` (pulled)."""
    content: str | None = None
    """Template of the file's content, which is written before the first task starts. Only for `file://`."""
    sha256: str | None = None
    """Expected SHA-256 checksum of a download, 64 hexadecimal digits. Only for `http://` and `https://`."""
    create: bool = False
    """Create a missing directory instead of refusing to start. Only for `fs://`."""
    description: str | None = None
    """Text for readers; it has no effect."""


class Signature(Part, frozen=True, kw_only=True):
    """A pattern for log lines that explain a failure. Signatures of a file are tried before the built-in ones."""

    name: str
    """Name of the signature."""
    pattern: str
    """Python regular expression, searched in each line of a failed task's log."""
    reason: str | None = None
    """Reason word for programs and for `retries.reasons`. Default: the signature's name with `_` for `-`."""
    text: str = "{line}"
    """Sentence for people. It may use the pattern's named groups and `{line}`, for example `"{who} has no license"`."""
    hint: str = ""
    """The remedy, for the user."""


ARTIFACT_FIELDS: dict[str, tuple[str, ...]] = {"sha256": ("http", "https"), "create": ("fs",)}
"""Fields that only artifacts of some URI schemes have."""
