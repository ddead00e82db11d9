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
    """Return the program without what only people and checkers read: every order to start such a task carries it."""
    tree = _shortened(python_shim.__file__)
    if with_chunks:
        from sflow_ctl.planner.launch.python import chunk_shim  # few tasks have chunks

        more = [one for one in _shortened(chunk_shim.__file__).body if not _is_known(one)]
        tree.body[-1:] = [*more, tree.body[-1]]  # the last statement is the call of main
    lines = ast.unparse(tree).splitlines()
    return "\n".join(" " * ((len(line) - len(line.lstrip())) // 4) + line.lstrip() for line in lines)


def _shortened(path: str) -> ast.Module:
    tree: ast.Module = _Shorter().visit(ast.parse(Path(path).read_text(encoding="utf-8")))
    return tree


def _is_known(statement: ast.stmt) -> bool:
    """Return whether a statement imports what the other program has, or what only checkers need."""
    if not isinstance(statement, ast.ImportFrom):
        return False
    return statement.module == "typing" or str(statement.module).startswith("sflow_ctl.")


class _Shorter(ast.NodeTransformer):
    """Removes docstrings, annotations, and imports for checkers; `unparse` leaves comments out."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_for_checkers = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_for_checkers else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign:
        assert node.value is not None, "the program declares nothing without a value"
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._with_body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._with_body(node)

    def _with_body(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node
