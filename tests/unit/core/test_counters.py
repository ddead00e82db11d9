"""Each counter of the scheduler is changed in one module, so that it cannot be changed in one of two places only."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

CORE = Path(__file__).parents[3] / "sflow_ctl" / "core"
CHANGED_IN = {
    "live": "model/tally.py",
    "jobs": "model/tally.py",
    "working": "model/tally.py",
    "unsettled": "model/tally.py",
    "mains_left": "model/tally.py",
    "unmet": "policy/dependencies.py",
    "serving": "policy/dependencies.py",
    "holding": "policy/dependencies.py",
    "possible": "policy/dependencies.py",
}
TALLY_METHODS = {"add", "remove", "occupy", "release"}


def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the scheduler."""
    return {str(path.relative_to(CORE)): ast.parse(path.read_text()) for path in CORE.rglob("*.py")}


@pytest.mark.parametrize("counter", CHANGED_IN)
def test_a_counter_is_changed_in_one_module(counter: str) -> None:
    homes = {
        name
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.AugAssign)
        and isinstance(node.target, ast.Attribute)
        and node.target.attr == counter
    }
    assert homes == {CHANGED_IN[counter]}


def test_tasks_are_counted_where_they_change() -> None:
    callers = defaultdict(set)
    for name, tree in trees().items():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="tally"), attr=method)):
                    callers[method].add(name)
                case _:
                    pass
    assert callers.keys() == TALLY_METHODS
    revisions = {"actions/requested/revisions.py", "actions/requested/waves.py"}  # change plans, not states
    assert set().union(*callers.values()) == {"actions/transitions.py", *revisions}
