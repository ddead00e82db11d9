"""Plans storage targets, the uploads of tasks, and the upload of the run directory, with the addresses that are known."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from protocol.messages.uploads import FileUpload, StorageTarget
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.object_keys import KeyRefusedError, address, is_glob, labelled, object_key
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START, as_text, evaluate_any
from sflow_ctl.plan.model import DeferredExpression, PlannedNode, PlannedTask
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.source import PlanInput, Scope
from sflow_ctl.planner.tasks.scopes import TaskScope
from sflow_ctl.planner.tasks.scripts import Scripts

if TYPE_CHECKING:
    from sflow_ctl.planner.launch.plugins import FindPlugin

_OWN_NAME = lazy_pattern(
    r"""\b(?:task\s*\.\s*name\b|task\s*\[\s*["']name["']\s*\]|replica\s*\.\s*(?:name|index)\b)"""
)
"""What makes the keys of replicas different by itself."""
_SECRET_IN_URL = lazy_pattern(r"//[^/@]*@")


class RunUploads(Struct, frozen=True):
    """The targets, and the upload of the run directory."""

    storage: tuple[StorageTarget, ...]
    upload_all: FileUpload | None


def plan_run_uploads(source: PlanInput, scope: Scope, findings: Findings) -> RunUploads:
    """Resolve the section `storage` and the workflow's `upload_all`. Problems are findings."""
    storage = []
    for one in source.document.storage:
        with findings.collecting("storage", one.name, subject=f'storage "{one.name}"'):
            storage.append(_target(one, scope, source.context.workspace_dir, source.context.find_plugin))
    planned = None
    wanted = source.document.workflow.upload_all
    if wanted is not None:
        with findings.collecting("workflow", "upload_all", "to", subject="workflow.upload_all"):
            names = {**scope.names, "workflow": _workflow(source)}
            to = f"{source.context.run_id}.zip" if wanted.to is None else _text(wanted.to, names)
            planned = FileUpload(target=wanted.target, pattern="", to=to, on_error=wanted.on_error)
            for target in storage:
                if target.name == wanted.target:
                    _checked_key(target, planned, f"{source.context.run_id}.zip", ("to",))
    return RunUploads(tuple(storage), planned)


def _workflow(source: PlanInput) -> dict[str, str]:
    return {
        "name": source.document.workflow.name,
        "run_id": source.context.run_id,
        "output_dir": source.context.run_directory,
    }


def _text(field: str, names: Mapping[str, Any]) -> str:
    return as_text(evaluate_any(field, names)) if EXPRESSION_START in field else field


def _target(one: schema.Storage, scope: Scope, workspace: str, find: "FindPlugin") -> StorageTarget:
    """Return a target with its expressions evaluated. Raises: UnplannableError, ExpressionError."""

    def text(field: str | None) -> str:
        return "" if field is None else as_text(scope.value(field))

    path = text(one.path)
    if path and not path.startswith("/"):
        path = f"{workspace}/{path}"
    target = StorageTarget(
        name=one.name,
        type=one.type,
        bucket=text(one.bucket),
        region=text(one.region),
        prefix=text(one.prefix),
        endpoint_url=text(one.endpoint_url),
        storage_class=text(one.storage_class),
        addressing_style=one.addressing_style,
        path=path,
        uri=text(one.uri).rstrip("/"),
    )
    needed = schema.STORAGE_NEEDS[one.type]
    if not getattr(target, needed):
        what = f'storage "{one.name}" has an empty {needed}'
        raise UnplannableError("missing-key", what, f"{needed}: NAME", (needed,))
    if ".." in target.prefix.split("/"):
        what = f'storage "{one.name}" has a prefix with "..": "{target.prefix}"'
        raise UnplannableError("unsafe-path", what, "write a prefix without ..", ("prefix",))
    if one.type == "plugin":
        from sflow_ctl.planner.launch.plugins import check_scheme  # few targets are one

        check_scheme(find, target.uri, f'storage "{target.name}"')
    url = target.endpoint_url
    if url and not url.startswith(("http://", "https://")):
        what = (
            f'storage "{one.name}" has an endpoint_url that does not begin with http:// or https://: "{url}"'
        )
        raise UnplannableError("wrong-value", what, "endpoint_url: https://HOST:PORT", ("endpoint_url",))
    if _SECRET_IN_URL.search(url):
        what = f'storage "{one.name}" has credentials in its endpoint_url, which is written into plan.json'
        raise UnplannableError(
            "wrong-value", what, "give them to boto3, e.g. by AWS_PROFILE", ("endpoint_url",)
        )
    return target


# ---------------------------------------------------------------------- tasks


def plan_uploads(
    task: schema.Task,
    scope: TaskScope,
    scripts: Scripts,
    storage: Sequence[StorageTarget],
    env: Mapping[str, str],
    nodes: Sequence[PlannedNode],
    findings: Findings,
) -> tuple[tuple[FileUpload, ...], list[DeferredExpression]]:
    """Return the uploads of a replica, and the deferred expressions in them. Raises: UnplannableError, ExpressionError."""
    if not task.uploads:
        return (), []
    names = _names(task, scope, env, nodes)
    targets = {target.name: target for target in storage}
    is_replicated = scope.replica.name != task.name
    planned, deferred = [], list[DeferredExpression]()

    def rendered(text: str, path: tuple[str | int, ...]) -> str:
        done, more = scripts.value(task, scope.replica.name, text, path, names)
        deferred.extend(more)
        return as_text(done)

    for index, one in enumerate(task.uploads):
        path = ("uploads", index)
        is_distinct = one.to is not None and _OWN_NAME.search(one.to) is not None
        label = scope.replica.name if is_replicated and not is_distinct else ""
        upload = FileUpload(
            target=one.target,
            pattern=rendered(one.source, (*path, "from")),
            to="" if one.to is None else rendered(one.to, (*path, "to")),
            label=label,
            on_error=one.on_error,
        )
        if not upload.pattern:
            raise UnplannableError(
                "wrong-value", f'task "{task.name}": "from" is empty', None, (*path, "from")
            )
        if label:
            _warn_of_label(task, index, findings)
        if one.target in targets:
            _checked_key(targets[one.target], upload, upload.pattern, (*path, "to"))
        planned.append(upload)
    return tuple(planned), deferred


def warn_of_shared_keys(
    tasks: Sequence[PlannedTask], storage: Sequence[StorageTarget], findings: Findings
) -> None:
    """Warn of files of different tasks that go to one address: the last one to arrive would be there."""
    targets = {target.name: target for target in storage}
    owners: dict[str, str] = {}
    for task in tasks:
        for index, one in enumerate(task.uploads):
            if is_glob(one.pattern) or EXPRESSION_START in f"{one.pattern}{one.to}":
                continue  # known when it has run
            where = shown_address(targets[one.target], one)
            owner = owners.setdefault(where, task.name)
            if owner != task.name:
                what = f'tasks "{owner}" and "{task.name}" both upload to {where}: the last one to end replaces the other'
                place = findings.loaded.where("tasks", task.base, "uploads", index)
                findings.warn("shared-key", what, place, "give each a folder: to: NAME/")


def _warn_of_label(task: schema.Task, index: int, findings: Findings) -> None:
    what = f'task "{task.name}" has replicas, so the name of each is added to what it uploads: NAME_{task.name}_0.EXT'
    where = findings.loaded.where("tasks", task.name, "uploads", index)
    findings.warn("upload-names", what, where, 'or put it where you want: to: "${{ task.name }}/"')


def _names(
    task: schema.Task, scope: TaskScope, env: Mapping[str, str], nodes: Sequence[PlannedNode]
) -> dict[str, Any]:
    """Return what expressions of uploads see: all that the task's others do, the task itself under `task`, and `env`."""
    operator = task.operator
    operator_name = operator if isinstance(operator, str) else (operator or {}).get("name")
    own: dict[str, Any] = {
        "name": scope.replica.name,
        "output_dir": env["SFLOW_TASK_OUTPUT_DIR"],
        "backend": task.backend,
        "operator": operator_name,
    }
    if nodes:  # else they are chosen when it starts
        own["assigned_nodes"] = [node.name for node in nodes]
    tasks = copy.copy(scope.names.get("task", {}))
    tasks.update(own)
    return {**scope.names, "task": tasks, "env": dict(env)}


def _checked_key(target: StorageTarget, upload: FileUpload, path: str, where: tuple[str | int, ...]) -> None:
    """Raises: UnplannableError for a key that the upload would be refused for."""
    if any(EXPRESSION_START in text for text in (upload.to, path)):
        return
    try:
        object_key(target, upload.to, path.rstrip("/") or "file", upload.label)
    except KeyRefusedError as error:
        raise UnplannableError("unsafe-path", str(error), "write a key without ..", where) from error


def shown_address(target: StorageTarget, upload: FileUpload) -> str:
    """Return where files go, for people; the names of a pattern's files are its own last part."""
    if EXPRESSION_START in upload.to or EXPRESSION_START in upload.pattern:
        return address(target, f"{target.prefix.rstrip('/')}/{upload.to}".lstrip("/"))
    if is_glob(upload.pattern) and not (upload.to and not upload.to.endswith("/")):
        name = (
            upload.pattern.rstrip("/").rpartition("/")[2]
            if "**" not in upload.pattern.rpartition("/")[2]
            else "*"
        )
        shown = labelled(name, upload.label) if upload.label else name
        prefix = target.prefix if not target.prefix or target.prefix.endswith("/") else f"{target.prefix}/"
        return address(target, f"{prefix}{upload.to.lstrip('/')}{shown}")
    return address(target, object_key(target, upload.to, upload.pattern, upload.label))
