"""What a task with `python` has in its environment: the program that calls the function, and the names of its outputs."""

import ast
import json
from functools import cache
from pathlib import Path

from sflow_ctl.format import schema
from sflow_ctl.planner.launch.python import python_shim
from sflow_ctl.planner.launch.python.python_shim import OUTPUTS_VARIABLE, SOURCE_VARIABLE


def python_variables(task: schema.Task) -> dict[str, str]:
    """Return the variables of a task that calls a function; none for others."""
    if task.python is None:
        return {}
    names = [one.name for one in task.outputs if one.found_kind in ("param", "metric") and not one.path]
    return {SOURCE_VARIABLE: _source(), OUTPUTS_VARIABLE: json.dumps(names)}


@cache
def _source() -> str:
    """Return the program without comments and docstrings: every order to start such a task carries it."""
    tree = ast.parse(Path(python_shim.__file__).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            rest = [
                one
                for one in node.body
                if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            ]
            node.body = rest or [ast.Pass()]
    return ast.unparse(tree)
