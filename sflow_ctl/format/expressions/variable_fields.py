"""What a variable has in expressions beside the fields of its value: `.domain` and `.value`. Called by the engine."""

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.sandbox import SandboxedEnvironment

DOMAINS = "_domains"
"""The name under which expressions find the domains of variables; `templates` has it for callers."""
OF_VARIABLES = ("domain", "value")


def variable_named(node: nodes.Node) -> str | None:
    """Return the name in `NAME`, `variables.NAME` or `variables["NAME"]`."""
    if isinstance(node, nodes.Name):
        return node.name
    if not isinstance(node, nodes.Getattr | nodes.Getitem) or not isinstance(node.node, nodes.Name):
        return None
    if node.node.name != "variables":
        return None
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str) else None


def of_variable(made: SandboxedEnvironment, value: Any, name: str, field: str, domains: Any) -> Any:
    """Return a key of the variable's value, else its domain or the value itself."""
    is_variable = isinstance(domains, Mapping) and name in domains
    if (
        not is_variable
        or isinstance(value, StrictUndefined)
        or (isinstance(value, Mapping) and field in value)
    ):
        return made.getattr(value, field)
    return domains[name] if field == "domain" else value
