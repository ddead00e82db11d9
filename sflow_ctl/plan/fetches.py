"""What must be on this machine before the first task starts: downloads, snapshots of models, images. A part of the plan."""

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


Fetch = WebFile | HubSnapshot | ContainerImage
"""What must be on this machine before the first task starts."""
