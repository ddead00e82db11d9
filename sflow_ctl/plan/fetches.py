"""What must be on this machine before the first task starts: downloads, snapshots of models, images. A part of the plan."""

from typing import Literal

import msgspec


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    pass


class WebFile(_Part, frozen=True, kw_only=True, tag="web_file"):
    """A file to download to `path`, unless it is there."""

    artifact: str
    uri: str
    path: str
    sha256: str | None = None
    """64 hexadecimal digits, lower case."""
    where: str
    """Its position in the workflow file."""


class HubSnapshot(_Part, frozen=True, kw_only=True, tag="hub_snapshot"):
    """A model, dataset or space of a Hugging Face hub, or a part of one, to be linked at `link`."""

    artifact: str
    uri: str
    link: str
    """A link to the snapshot in the hub's own cache."""
    repo_type: str
    repo: str
    """`ORG/NAME`"""
    revision: str | None = None
    inside: str = ""
    """The file or directory within; empty for all."""
    where: str


class ContainerImage(_Part, frozen=True, kw_only=True, tag="container_image"):
    """An image that a container runtime on this machine needs."""

    artifact: str
    uri: str
    image: str
    where: str


class PluginFetch(_Part, frozen=True, kw_only=True, tag="plugin_fetch"):
    """What a plug-in of the URI's scheme puts at `path`, a file or a directory, unless it is there."""

    artifact: str
    uri: str
    scheme: str
    path: str
    sha256: str | None = None
    """64 hexadecimal digits, lower case; of a file."""
    where: str


Fetch = WebFile | HubSnapshot | ContainerImage | PluginFetch
"""What must be on this machine before the first task starts."""


PACKAGES = ".sflow/packages"
"""The folder of the run directory with snapshots of packages."""


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A package, folder or module of the workspace as it was when the run was planned."""

    source: str
    """Where it is; absolute."""
    kind: Literal["package", "folder", "module"]
    """`package` is imported by the name of its folder, `module` by that of its file; what is in a `folder` is imported itself."""
    sha256: str
    """Of the names and contents of its files."""
    files: int
    bytes: int

    @property
    def name(self) -> str:
        """Return the name of the folder or file."""
        return self.source.rstrip("/").rpartition("/")[2]

    @property
    def place(self) -> str:
        """Return where the snapshot is, relative to the run directory."""
        return f"{PACKAGES}/{self.sha256[:16]}/{self.name}"

    @property
    def import_path(self) -> str:
        """Return what Python looks in for it, relative to the run directory."""
        return self.place if self.kind == "folder" else f"{PACKAGES}/{self.sha256[:16]}"
