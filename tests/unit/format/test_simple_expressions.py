"""Expressions evaluated without the engine mean what they mean with it."""

from typing import Any

import pytest

from sflow_ctl.format.expressions import templates
from sflow_ctl.format.expressions.simple import UNKNOWN, evaluate_simple, simple
from sflow_ctl.plan.errors import ExpressionError

pytest.importorskip("hypothesis")

import hypothesis
from hypothesis import strategies as st

NAMES = {
    "A": 4,
    "B": 1.5,
    "S": "x",
    "L": [{"n": 1}, [2, 3]],
    "D": {"items": 7, "k-1": {"b": True}, "L": [5]},
    "N": None,
}
STEPS = st.sampled_from([".n", ".items", ".L", "[0]", "[1]", "['k-1']", ".b", "[9]", ".keys", "['nope']"])
ATOMS = st.one_of(
    st.builds(lambda name, steps: name + "".join(steps), st.sampled_from([*NAMES, "Z", "true", "range"]),
              st.lists(STEPS, max_size=3)),
    st.integers(0, 99).map(str),
)  # fmt: skip
SOURCES = st.one_of(
    ATOMS, st.builds(lambda a, op, b: f"{a}{op}{b}", ATOMS, st.sampled_from([" + ", "-", " *"]), ATOMS)
)


def by_the_engine(source: str) -> Any:
    """The value, or the class of what went wrong."""
    from jinja2 import Undefined, UndefinedError

    try:
        value = templates._compiled(source)(**NAMES)
    except (ExpressionError, TypeError, UndefinedError) as error:
        return type(error)
    return UNKNOWN if isinstance(value, Undefined) else value


@hypothesis.settings(deadline=None, max_examples=500)
@hypothesis.given(source=SOURCES)
def test_a_simple_expression_equals_the_engines_result_or_is_left_to_it(source: str) -> None:
    parts = simple(source)
    if parts is None:
        return
    value = evaluate_simple(parts, NAMES)
    if value is not UNKNOWN:
        expected = by_the_engine(source)
        assert value == expected
        assert type(value) is type(expected)


@pytest.mark.parametrize(
    "source", ["A._x", "D['__class__']", "_A", "true", "A.b()", "A + B + 1", "A ** 2", "007"]
)
def test_anything_else_is_left_to_the_engine(source: str) -> None:
    assert simple(source) is None


@pytest.mark.parametrize(
    ("source", "value"), [("A", 4), ("9000 + A", 9004), ("D['k-1'].b", True), ("L[1][0]", 2)]
)
def test_the_usual_ones_need_no_engine(source: str, value: object) -> None:
    parts = simple(source)
    assert parts is not None
    assert evaluate_simple(parts, NAMES) == value
