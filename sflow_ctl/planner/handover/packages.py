"""Puts snapshots of packages on the import path of tasks."""

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import as_text
from sflow_ctl.plan.fetches import Package
from sflow_ctl.planner.context import PackageError, PlanContext
from sflow_ctl.planner.findings import UnplannableError

VARIABLE = "SFLOW_PYTHON_PACKAGES"
"""The same as PYTHONPATH has of them, for functions: their snapshots come before the working directory."""


def packages_of(
    task: schema.Task, workflow: schema.Workflow, context: PlanContext, value: Callable[[Any], Any]
) -> tuple[Package, ...]:
    """Return the packages of a task, its own first. Raises: UnplannableError, ExpressionError."""
    found: dict[str, Package] = {}
    for field in (*task.packages, *workflow.packages):
        path = posixpath.normpath(posixpath.join(context.workspace_dir, as_text(value(field))))
        try:
            package = context.package_of(path)
        except PackageError as error:
            what = f'task "{task.name}" has the package "{field}": {error}'
            raise UnplannableError("wrong-package", what, error.hint, ("packages",)) from error
        other = found.setdefault(package.name, package)
        if other != package:
            what = f'task "{task.name}" has two packages called "{package.name}": {other.source} and {path}'
            raise UnplannableError("wrong-package", what, "rename one of them", ("packages",))
    return tuple(found.values())


def package_variables(
    packages: tuple[Package, ...], context: PlanContext, env: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of a task with packages: before what Python would look in otherwise."""
    if not packages:
        return {}
    paths = [*dict.fromkeys(f"{context.run_directory}/{one.import_path}" for one in packages)]
    before = env.get("PYTHONPATH", context.python_path)
    return {"PYTHONPATH": ":".join([*paths, *([before] if before else [])]), VARIABLE: ":".join(paths)}
