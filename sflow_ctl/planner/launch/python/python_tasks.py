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
    is_chunk = task.foreach is not None and task.foreach.chunk is not None
    return {SOURCE_VARIABLE: _source(with_chunks=is_chunk), OUTPUTS_VARIABLE: json.dumps(names)}


@cache
def _source(*, with_chunks: bool) -> str:
    """Return the program without comments and docstrings: every order to start such a task carries it."""
    tree = _parsed(python_shim.__file__)
    if with_chunks:
        from sflow_ctl.planner.launch.python import chunk_shim  # few tasks have chunks

        more = [one for one in _parsed(chunk_shim.__file__).body if not _is_known(one)]
        tree.body[-1:] = [*more, tree.body[-1]]  # the last statement is the call of main
    return ast.unparse(tree)


def _parsed(path: str) -> ast.Module:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            rest = [
                one
                for one in node.body
                if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            ]
            node.body = rest or [ast.Pass()]
    return tree


def _is_known(statement: ast.stmt) -> bool:
    """Return whether a statement imports what the other program has, or what only its beginning may import."""
    if not isinstance(statement, ast.ImportFrom):
        return False
    return statement.module == "__future__" or str(statement.module).startswith("sflow_ctl.")
