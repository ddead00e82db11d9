"""Artifacts: URIs to paths, inline content to files, and what must exist already."""

import os.path
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.spec import schema
from sflow_ctl.spec.expressions import MARK, evaluate, render_template

_FETCHED = frozenset(("http", "https", "hf", "huggingface", "docker"))


@dataclass(frozen=True, slots=True)
class Materialised:
    """One artifact as tasks see it. `file` is where inline content goes, as the URI says it."""

    uri: str
    path: str
    file: str | None = None


def plan_artifacts(
    artifacts: list[schema.Artifact],
    names: Mapping[str, Any],
    workspace: str,
    run_directory: str,
    path_exists: Callable[[str], bool],
    findings: Findings,
) -> dict[str, Materialised]:
    """Name to what it is, in file order; problems are findings."""
    result = {}
    for artifact in artifacts:
        with findings.collecting("artifacts", artifact.name, "uri", subject=f'artifact "{artifact.name}"'):
            uri = str(evaluate(artifact.uri, names)) if MARK in artifact.uri else artifact.uri
            result[artifact.name] = _plan_one(artifact, uri, workspace, run_directory, path_exists, findings)
    return result


def inline_files(
    artifacts: list[schema.Artifact],
    planned: Mapping[str, Materialised],
    names: Mapping[str, Any],
    findings: Findings,
) -> tuple[tuple[str, str], ...]:
    """(path, content) of what is to be written before the first task.

    Later than the paths: content may use workflow variables, which may use the artifacts' paths.
    """
    files = []
    for artifact in artifacts:
        one = planned.get(artifact.name)
        if one is None or one.file is None or artifact.content is None:
            continue
        with findings.collecting(
            "artifacts", artifact.name, "content", subject=f'artifact "{artifact.name}"'
        ):
            has_expression = MARK in artifact.content
            files.append(
                (one.file, render_template(artifact.content, names) if has_expression else artifact.content)
            )
    return tuple(files)


def mounted_directories(artifacts: Mapping[str, Materialised]) -> list[str]:
    """Directories that a container needs for the artifacts, in file order, each once.

    A path with a suffix counts as a file, whose directory is needed; images (`.sqsh`) are not mounted.
    """
    paths = [
        PurePosixPath(one.path)
        for one in artifacts.values()
        if one.uri.partition("://")[0].lower() in ("fs", "file") and not one.path.endswith(".sqsh")
    ]
    return list(dict.fromkeys(str(path.parent if path.suffix else path) for path in paths))


def _plan_one(
    artifact: schema.Artifact,
    uri: str,
    workspace: str,
    run_directory: str,
    path_exists: Callable[[str], bool],
    findings: Findings,
) -> Materialised:
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    if scheme in _FETCHED:
        what = f'artifact "{artifact.name}": {scheme}:// artifacts are not fetched yet'
        raise UnplannableError("artifact-not-supported", what, "fetch it before, and use fs://PATH")
    if scheme not in ("fs", "file"):
        return Materialised(uri, uri)
    path = unquote(rest)
    if scheme == "file" and path.startswith("localhost/"):
        path = path[len("localhost") :]
    path = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - text, not yet a path
    if artifact.content is not None:
        return Materialised(uri, _below(run_directory, path), path)
    absolute = _below(workspace, path)
    if not path_exists(absolute):
        if scheme == "fs":
            what = f'artifact "{artifact.name}": {absolute} does not exist'
            raise UnplannableError(
                "artifact-missing", what, "make it, or point elsewhere with --artifact NAME=URI"
            )
        findings.warn(f'artifact "{artifact.name}": {absolute} does not exist')
    return Materialised(uri, absolute)


def _below(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path))  # noqa: PTH118 - Path keeps `..`
