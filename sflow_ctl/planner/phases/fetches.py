"""Resolves a URI that must be fetched to its path and its kind of fetch.

Computes names only: nothing is made or downloaded.
"""

import os
import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from sflow_ctl.plan.fetches import ContainerImage, Fetch, HubSnapshot, PluginFetch, WebFile
from sflow_ctl.planner.findings import UnplannableError

CACHE = ".sflow_cache/artifacts"
"""The cache directory, in the workspace."""
# Patterns are text, here and in artifact_use.py: compiling them would cost every run a millisecond.
_SUFFIX = r"(\.tar)?\.[A-Za-z0-9_]{1,16}$"
_HUB = r"""(?x)(?:(?P<kind>models|datasets|spaces)/)?
        (?P<repo>(?!(?:models|datasets|spaces)/)[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)
        (?:@(?P<revision>refs/(?:pr/\d+|convert/[A-Za-z0-9_.-]+)|[^/@]+))?
        (?:/(?P<inside>.*))?$"""
_REPO_TYPES = {None: "model", "models": "model", "datasets": "dataset", "spaces": "space"}


def plan_fetch(
    artifact: str, uri: str, sha256: str | None, workspace: str, where: str
) -> tuple[str, Fetch] | None:
    """Return the artifact's path and how to get it, or None for a scheme that is not fetched.

    Raises: UnplannableError.
    """
    scheme = uri.partition("://")[0].lower()
    if scheme in ("http", "https"):
        path = f"{workspace}/{CACHE}/http_{_digest(uri)}{_suffix(uri)}"
        return path, WebFile(artifact=artifact, uri=uri, path=path, sha256=sha256, where=where)
    if scheme in ("hf", "huggingface"):
        snapshot = _hub_snapshot(artifact, uri, workspace, where)
        return f"{snapshot.link}/{snapshot.inside}".rstrip("/"), snapshot
    if scheme == "docker":
        image = uri.partition("://")[2]
        if image.startswith("-"):
            what = (
                f'artifact "{artifact}": the image of {uri} begins with a dash and would be read as an option'
            )
            raise UnplannableError("option-in-value", what, "docker://NAME[:TAG]", ("uri",))
        return uri, ContainerImage(artifact=artifact, uri=uri, image=image, where=where)
    return None


def plan_plugin_fetch(
    artifact: str, uri: str, sha256: str | None, workspace: str, where: str
) -> tuple[str, PluginFetch]:
    """Return the path of an artifact that a plug-in fetches, and the order to do so."""
    scheme = uri.partition("://")[0].lower()
    path = f"{workspace}/{CACHE}/{re.sub('[^a-z0-9]', '-', scheme)}_{_digest(uri)}{_suffix(uri)}"
    return path, PluginFetch(artifact=artifact, uri=uri, scheme=scheme, path=path, sha256=sha256, where=where)


def shown_uri(uri: str) -> str:
    """Return the URI without a password in it."""
    scheme, separator, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    user, at, host_only = host.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host_only}{slash}{path}"


def _hub_snapshot(artifact: str, uri: str, workspace: str, where: str) -> HubSnapshot:
    match = re.match(_HUB, uri.partition("://")[2])
    inside = unquote((match and match["inside"]) or "").strip("/")
    if match is None or ".." in inside.split("/"):
        what = f'artifact "{artifact}": "{uri}" does not name a repository of a hub'
        hint = "write hf://ORG/NAME[@REVISION][/PATH], or hf://datasets/ORG/NAME..."
        raise UnplannableError("artifact-uri", what, hint)
    repo_type = _REPO_TYPES[match["kind"]]
    revision = unquote(match["revision"]) if match["revision"] else None
    identity = f"{repo_type}/{match['repo']}@{revision or ''}/{inside}"
    return HubSnapshot(
        artifact=artifact,
        uri=uri,
        link=f"{workspace}/{CACHE}/hf_{_digest(identity)}",
        repo_type=repo_type,
        repo=match["repo"],
        revision=revision,
        inside=inside,
        where=where,
    )


def hub_cache() -> str:
    """Return the directory in which the hub's own library keeps its downloads.

    Source: its documentation on environment variables.
    """
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    directory = os.environ.get("HF_HUB_CACHE") or f"{home}/hub"
    return os.path.abspath(os.path.expandvars(os.path.expanduser(directory)))  # noqa: PTH100, PTH111


def _digest(text: str) -> str:
    import hashlib  # imported late: it loads a large library, and most plans fetch nothing

    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _suffix(uri: str) -> str:
    """Return the extension of the file that a URI names, since some programs go by it."""
    try:
        name = PurePosixPath(unquote(urlsplit(uri).path)).name
    except ValueError:  # not a valid host; the download reports it
        return ""
    match = re.search(_SUFFIX, name)
    return match[0] if match else ""
