"""Phases for artifacts: URIs to paths, inline content to files, what must be fetched or made, and what must exist already."""

import os.path
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from msgspec import Struct

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START, evaluate, render_template, template_names
from sflow_ctl.format.rules.definitions import artifact_field_findings, artifact_sum_findings
from sflow_ctl.plan.fetches import ContainerImage, Fetch, HubSnapshot, PluginFetch, WebFile
from sflow_ctl.plan.task_views import OWN
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.phases.artifact_use import artifact_use
from sflow_ctl.planner.phases.backends import PlannedBackends
from sflow_ctl.planner.phases.fetches import hub_cache, plan_fetch, plan_plugin_fetch
from sflow_ctl.planner.phases.late_variables import refuse_late, split_late
from sflow_ctl.planner.source import PlanInput, Scope, domains_of, namespace, workflow_view
from sflow_ctl.planner.tasks.ports import artifacts_in_files

if TYPE_CHECKING:
    from sflow_ctl.planner.launch.plugins import FindPlugin

_OF_TASKS = frozenset(("task", "replica", "checkpoint", *OWN))


class Materialised(Struct, frozen=True):
    """One artifact as tasks see it."""

    uri: str
    path: str
    file: str | None = None
    """The path of inline content, as the URI gives it."""
    fetch: Fetch | None = None
    directory: str | None = None
    """A directory to make if it is missing."""
    is_on_nodes: bool = False
    """Its path must exist on the nodes of the tasks that use it."""


class Places(Struct, frozen=True):
    """The directories that artifacts may be in. Paths are absolute."""

    workspace: str
    run_directory: str
    path_exists: Callable[[str], bool]
    find_plugin: "FindPlugin"
    """Returns a plug-in by its group and name. Raises: PluginError."""
    elsewhere: Mapping[str, bool]
    """Artifacts used only by tasks on other machines; the agents there check their paths."""
    may_lack: bool = False
    """A missing artifact is only a warning."""
    skips_check: bool = False
    """Nodes do not look for paths that are not made or fetched by the run."""


class PlannedArtifacts(Struct, frozen=True):
    """All artifacts of a document, and what has to be done for them."""

    items: Mapping[str, Materialised]
    fetches: tuple[Fetch, ...]
    required_paths: Mapping[str, tuple[tuple[str, str], ...]]
    """Maps tasks as written to (artifact, path) pairs that only the tasks' nodes can check."""
    mounts: tuple[str, ...]
    """Directories that containers need for the artifacts."""

    @property
    def paths(self) -> dict[str, str]:
        """Maps names to paths, in file order."""
        return {name: one.path for name, one in self.items.items()}

    @property
    def directories(self) -> tuple[str, ...]:
        """Directories to make if they are missing."""
        return tuple(one.directory for one in self.items.values() if one.directory is not None)

    @property
    def view(self) -> dict[str, Any]:
        """Return `artifacts` for expressions."""
        return {name: {"uri": one.uri, "path": one.path} for name, one in self.items.items()}


def plan_artifacts(
    source: PlanInput, backends: PlannedBackends, values: Mapping[str, Any], findings: Findings
) -> PlannedArtifacts:
    """Phase: resolve each artifact, in file order; problems are findings."""
    context = source.context

    def is_elsewhere(task: schema.Task) -> bool:
        """Return whether a task runs on a machine that this process cannot examine."""
        return backends.of(task).type == "slurm" and context.nodes_override is None

    use = artifact_use(source.document, is_elsewhere)
    places = Places(
        context.workspace_dir,
        context.run_directory,
        context.path_exists,
        context.find_plugin,
        use.elsewhere,
        context.may_lack_artifacts or context.skips_artifact_check,
        context.skips_artifact_check,
    )
    others = {
        "backends": backends.view,
        "workflow": workflow_view(source.document),
        "artifacts": {},
        **domains_of(source.document),
    }
    names = namespace(values, others)
    items: dict[str, Materialised] = {}
    refuse_late("artifacts", source.document.artifacts, split_late(source.document.variables)[1], findings)
    findings.stop_if_any()
    for artifact in source.document.artifacts:
        with findings.collecting("artifacts", artifact.name, "uri", subject=f'artifact "{artifact.name}"'):
            uri = str(evaluate(artifact.uri, names)) if EXPRESSION_START in artifact.uri else artifact.uri
            sha256 = _sha256(artifact, uri, names, findings)
            items[artifact.name] = _plan_one(artifact, uri, sha256, places, findings)
    required = {
        task: tuple((name, items[name].path) for name in used if name in items and items[name].is_on_nodes)
        for task, used in use.of_tasks_elsewhere.items()
    }
    fetches = planned_fetches(items, with_images=use.is_any_here, findings=findings)
    return PlannedArtifacts(items, fetches, required, tuple(mounted_directories(items)))


def planned_fetches(
    artifacts: Mapping[str, Materialised], *, with_images: bool, findings: Findings
) -> tuple[Fetch, ...]:
    """Return what must be fetched, in file order, without duplicates.

    Images only where a task runs on this machine: elsewhere the nodes' container runtime fetches them.
    """
    result: dict[str, Fetch] = {}
    for one in artifacts.values():
        if one.fetch is None or (isinstance(one.fetch, ContainerImage) and not with_images):
            continue
        other = result.setdefault(one.path, one.fetch)
        if (
            isinstance(other, WebFile | PluginFetch)
            and isinstance(one.fetch, WebFile | PluginFetch)
            and other.sha256 != one.fetch.sha256
        ):
            what = f'artifacts "{other.artifact}" and "{one.fetch.artifact}" have the same URI and different sha256'
            findings.add("artifact-sha256", what, one.fetch.where, "write the same sha256 for both")
    return tuple(result.values())


def inline_files(
    source: PlanInput, planned: PlannedArtifacts, scope: Scope, findings: Findings
) -> tuple[tuple[str, str], ...]:
    """Phase: return the (path, content) of files to write before the first task. Problems are findings.

    Runs after the paths are known: content may use workflow variables, which may use the artifacts' paths.
    Content that uses names of a task is left to the `files` of tasks.
    """
    in_files = artifacts_in_files(source.tasks)
    files = []
    for artifact in source.document.artifacts:
        one = planned.items.get(artifact.name)
        if one is None or one.file is None or artifact.content is None:
            continue
        with findings.collecting(
            "artifacts", artifact.name, "content", subject=f'artifact "{artifact.name}"'
        ):
            content = artifact.content
            if EXPRESSION_START in content:
                is_of_tasks = not scope.names.keys() >= template_names(content) & _OF_TASKS
                if artifact.name in in_files and is_of_tasks:
                    continue
                content = render_template(content, scope.names)
            files.append((one.file, content))
    return tuple(files)


def mounted_directories(artifacts: Mapping[str, Materialised]) -> list[str]:
    """Return the directories that a container needs for the artifacts, in file order, each once.

    A path with a suffix counts as a file, whose directory is needed; images (`.sqsh`) are not mounted.
    Downloads are in the workspace, which every container has; snapshots of a hub are links to outside it.
    """
    linked = [hub_cache() for one in artifacts.values() if isinstance(one.fetch, HubSnapshot)]
    paths = [
        PurePosixPath(one.path)
        for one in artifacts.values()
        if one.uri.partition("://")[0].lower() in ("fs", "file") and not one.path.endswith(".sqsh")
    ]
    return list(dict.fromkeys((*(str(path.parent if path.suffix else path) for path in paths), *linked)))


def _sha256(artifact: schema.Artifact, uri: str, names: Mapping[str, Any], findings: Findings) -> str | None:
    """Return the checksum in lower case. Loading the file has checked it, unless it has expressions."""
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
        if not artifact.fetch:
            return Materialised(uri, uri)
        from sflow_ctl.planner.launch.plugins import check_scheme  # few artifacts need one

        check_scheme(places.find_plugin, uri, f'artifact "{artifact.name}"')
        path, by_plugin = plan_plugin_fetch(artifact.name, uri, sha256, places.workspace, where)
        return Materialised(uri, path, fetch=by_plugin, is_on_nodes=True)
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
    return Materialised(uri, absolute, is_on_nodes=scheme == "fs" and not places.skips_check)


def _inline(
    artifact: schema.Artifact, uri: str, path: str, places: Places, findings: Findings
) -> Materialised:
    absolute = _below(places.run_directory, path)
    if not absolute.startswith(f"{places.run_directory}/"):
        if not os.path.isabs(path):  # noqa: PTH117 - text
            what = f'artifact "{artifact.name}": the path of its content escapes the workflow output directory: {uri}'
            raise UnplannableError(
                "outside-run-directory", what, "use file://NAME, or an absolute path", ("uri",)
            )
        what = (
            f'artifact "{artifact.name}": its content is written to {absolute}, outside the run directory, '
        )
        where = findings.loaded.where("artifacts", artifact.name, "uri")
        findings.warn("outside-run-directory", f"{what}and overwrites a file there", where, "use file://NAME")
    return Materialised(uri, absolute, path, is_on_nodes=True)


def _note_missing(name: str, scheme: str, path: str, places: Places, findings: Findings) -> None:
    """Refuse an artifact that must exist on this machine and does not. Raises: UnplannableError."""
    what = f'artifact "{name}": {path} does not exist'
    if scheme != "fs" or places.may_lack:
        findings.warn("artifact-missing", what, findings.loaded.where("artifacts", name, "uri"))
    elif name not in places.elsewhere:
        hint = "make it, let runs make it with `create: true`, or point elsewhere with --artifact NAME=URI"
        raise UnplannableError("artifact-missing", what, hint)
    elif not places.elsewhere[name]:
        where = findings.loaded.where("artifacts", name, "uri")
        what = f"{what} here, and no task names it, so it is looked for on no node"
        findings.warn("artifact-missing", what, where)


def _below(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path))  # noqa: PTH118 - Path keeps `..`
