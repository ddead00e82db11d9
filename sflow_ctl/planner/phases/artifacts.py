"""Artifacts: URIs to paths, inline content to files, what must be fetched or made, and what must exist already."""

import os.path
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import MARK, evaluate, render_template, template_names
from sflow_ctl.format.rules.definitions import artifact_field_findings, artifact_sum_findings
from sflow_ctl.plan.model import ContainerImage, Fetch, HubSnapshot, WebFile
from sflow_ctl.plan.task_views import OWN
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.phases.fetches import hub_cache, plan_fetch

_OF_TASKS = frozenset(("task", "replica", *OWN))


@dataclass(frozen=True, slots=True)
class Materialised:
    """One artifact as tasks see it."""

    uri: str
    path: str
    file: str | None = None
    """Where inline content goes, as the URI says it."""
    fetch: Fetch | None = None
    directory: str | None = None
    """Made if it is missing."""
    is_on_nodes: bool = False
    """Its path is one that the nodes of its users must have."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where artifacts may be. Paths are absolute."""

    workspace: str
    run_directory: str
    path_exists: Callable[[str], bool]
    elsewhere: Mapping[str, bool]
    """Artifacts that no task on this machine uses; true when a task on another does, whose node is asked."""


def plan_artifacts(
    artifacts: list[schema.Artifact], names: Mapping[str, Any], places: Places, findings: Findings
) -> dict[str, Materialised]:
    """Name to what it is, in file order; problems are findings."""
    result = {}
    for artifact in artifacts:
        with findings.collecting("artifacts", artifact.name, "uri", subject=f'artifact "{artifact.name}"'):
            uri = str(evaluate(artifact.uri, names)) if MARK in artifact.uri else artifact.uri
            sha256 = _sha256(artifact, uri, names, findings)
            result[artifact.name] = _plan_one(artifact, uri, sha256, places, findings)
    return result


def planned_fetches(
    artifacts: Mapping[str, Materialised], *, with_images: bool, findings: Findings
) -> tuple[Fetch, ...]:
    """What must be fetched, in file order, the same thing once.

    Images only where a task runs on this machine: elsewhere the nodes' own runtime gets them.
    """
    result: dict[str, Fetch] = {}
    for one in artifacts.values():
        if one.fetch is None or (isinstance(one.fetch, ContainerImage) and not with_images):
            continue
        other = result.setdefault(one.path, one.fetch)
        if isinstance(other, WebFile) and isinstance(one.fetch, WebFile) and other.sha256 != one.fetch.sha256:
            what = f'artifacts "{other.artifact}" and "{one.fetch.artifact}" have one URI and not one sha256'
            findings.add("artifact-sha256", what, one.fetch.where, "write the same sha256 for both")
    return tuple(result.values())


def inline_files(
    artifacts: list[schema.Artifact],
    planned: Mapping[str, Materialised],
    names: Mapping[str, Any],
    taken: Collection[str],
    findings: Findings,
) -> tuple[tuple[str, str], ...]:
    """(path, content) of what is to be written before the first task.

    Later than the paths: content may use workflow variables, which may use the artifacts' paths. Content that uses
    what a task has is for the `files` of tasks, `taken` are the artifacts that those use.
    """
    files = []
    for artifact in artifacts:
        one = planned.get(artifact.name)
        if one is None or one.file is None or artifact.content is None:
            continue
        with findings.collecting(
            "artifacts", artifact.name, "content", subject=f'artifact "{artifact.name}"'
        ):
            content = artifact.content
            if MARK in content:
                if artifact.name in taken and not names.keys() >= template_names(content) & _OF_TASKS:
                    continue
                content = render_template(content, names)
            files.append((one.file, content))
    return tuple(files)


def mounted_directories(artifacts: Mapping[str, Materialised]) -> list[str]:
    """Directories that a container needs for the artifacts, in file order, each once.

    A path with a suffix counts as a file, whose directory is needed; images (`.sqsh`) are not mounted. What is
    downloaded lies in the workspace, which every container has; snapshots of a hub are links out of it.
    """
    linked = [hub_cache() for one in artifacts.values() if isinstance(one.fetch, HubSnapshot)]
    paths = [
        PurePosixPath(one.path)
        for one in artifacts.values()
        if one.uri.partition("://")[0].lower() in ("fs", "file") and not one.path.endswith(".sqsh")
    ]
    return list(dict.fromkeys((*(str(path.parent if path.suffix else path) for path in paths), *linked)))


def _sha256(artifact: schema.Artifact, uri: str, names: Mapping[str, Any], findings: Findings) -> str | None:
    """The checksum in lower case. What is wrong is found when the file is read, unless expressions hide it."""
    where = findings.loaded.where
    findings.found += artifact_field_findings(artifact, uri.partition("://")[0], where)
    if artifact.sha256 is None:
        return None
    text = str(evaluate(artifact.sha256, names))
    findings.found += artifact_sum_findings(artifact, text, where)
    return text.lower()


def _plan_one(
    artifact: schema.Artifact, uri: str, sha256: str | None, places: Places, findings: Findings
) -> Materialised:
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    where = findings.loaded.where("artifacts", artifact.name, "uri")
    fetched = plan_fetch(artifact.name, uri, sha256, places.workspace, where)
    if fetched is not None:
        path, fetch = fetched
        return Materialised(uri, path, fetch=fetch, is_on_nodes=not isinstance(fetch, ContainerImage))
    if scheme not in ("fs", "file"):
        return Materialised(uri, uri)
    path = unquote(rest)
    if scheme == "file" and path.startswith("localhost/"):
        path = path[len("localhost") :]
    path = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - text, not yet a path
    if artifact.content is not None:
        return _inline(artifact, uri, path, places, findings)
    absolute = _below(places.workspace, path)
    if artifact.create:
        return Materialised(uri, absolute, directory=absolute, is_on_nodes=True)
    if not places.path_exists(absolute):
        _note_missing(artifact.name, scheme, absolute, places, findings)
    return Materialised(uri, absolute, is_on_nodes=scheme == "fs")


def _inline(
    artifact: schema.Artifact, uri: str, path: str, places: Places, findings: Findings
) -> Materialised:
    absolute = _below(places.run_directory, path)
    if not absolute.startswith(f"{places.run_directory}/"):
        findings.warn(
            f'artifact "{artifact.name}": its content is written to {absolute}, outside the run directory, '
            "over what may be there"
        )
    return Materialised(uri, absolute, path, is_on_nodes=True)


def _note_missing(name: str, scheme: str, path: str, places: Places, findings: Findings) -> None:
    """Raises: UnplannableError where it must exist on this machine."""
    what = f'artifact "{name}": {path} does not exist'
    if scheme != "fs":
        findings.warn(what)
    elif name not in places.elsewhere:
        hint = "make it, let runs make it with `create: true`, or point elsewhere with --artifact NAME=URI"
        raise UnplannableError("artifact-missing", what, hint)
    elif not places.elsewhere[name]:
        findings.warn(f"{what} here, and no task names it, so no node is asked")


def _below(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path))  # noqa: PTH118 - Path keeps `..`
