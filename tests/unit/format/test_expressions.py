"""Expressions: special characters, values, refusals."""

import contextlib

import hypothesis
import pytest
from hypothesis import strategies as st

from sflow_ctl.format.expressions.templates import check_syntax, evaluate, names_used, render_template
from sflow_ctl.plan.errors import ExpressionError

NAMES = {"variables": {"A": 4, "items": [1, 2], "B": "x"}, "A": 4, "t": {"my-svc": {"n": 1}}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${{ 1 + 2 }}", 3),
        ("${{ [1, 2] }}", [1, 2]),
        ("${{ true }}", True),
        ("n=${{ 1 + 2 }}", "n=3"),
        ("${{ A }}${{ A }}", "44"),
        ("${{ variables.A * 2 }}", 8),
        ("${{ variables.items }}", [1, 2]),
        ("${{ t['my-svc'].n }}", 1),
        ("${{ {'a': {'b': 1}} }}", {"a": {"b": 1}}),
        ("${{ '}}' }}", "}}"),
        ("${{ '${{' }}", "${{"),
        ("a ${#array[@]} {% if %} ${{ A }}", "a ${#array[@]} {% if %} 4"),
        ("{% raw %}${{ x }}{% endraw %}", "${{ x }}"),
        ("$((1+2)) ${HOME} ${{ A }}", "$((1+2)) ${HOME} 4"),
        ("${{ A | string }}", "4"),
        ("line ${{ A }}\n", "line 4\n"),
    ],
)
def test_an_expression_has_its_value(text: str, value: object) -> None:
    assert evaluate(text, NAMES) == value


@pytest.mark.parametrize("text", ["${{ NOPE }}", "${{ variables.NOPE }}", "x ${{ t.NOPE.n }}"])
def test_an_undefined_name_is_named(text: str) -> None:
    with pytest.raises(ExpressionError, match="unknown ") as raised:
        evaluate(text, NAMES)
    assert raised.value.is_undefined


def test_a_failure_has_its_real_cause() -> None:
    with pytest.raises(ExpressionError, match="ZeroDivisionError"):
        evaluate("${{ 1 / 0 }}", NAMES)


@pytest.mark.parametrize("text", ["${{ 1 + }}", "${{ }}", "${{ a b }}", "${{ 'x }}", "x ${{ y"])
def test_bad_syntax_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        check_syntax(text)


@pytest.mark.parametrize(
    "source",
    [
        "''.__class__",
        "A.__class__.__mro__",
        "variables['__class__']",
        "(1).__add__(2)",
        "''|attr('__class__')",
        "x._private",
    ],
)
def test_nothing_private_can_be_reached(source: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(f"${{{{ {source} }}}}", {**NAMES, "x": pytest})


def test_artifact_content_is_a_whole_template_and_keeps_its_last_newline() -> None:
    text = "{% for i in variables.items %}${{ i }};{% endfor %}\n"
    assert render_template(text, NAMES) == "1;2;\n"


def test_names_are_found_whatever_their_form() -> None:
    assert names_used("${{ task['a'].nodes }} ${{ B + variables.C }}") == {"task", "B", "variables"}


@hypothesis.settings(deadline=1000, max_examples=300)
@hypothesis.given(source=st.text(alphabet="abA_.()[]{}'\"|+-*/ 019,:%#$~<>=!", max_size=40))
def test_any_text_is_a_value_or_an_expression_error(source: str) -> None:
    with contextlib.suppress(ExpressionError):
        evaluate(f"x ${{{{ {source} }}}} y", NAMES)


def test_a_default_stands_for_what_is_missing() -> None:
    names = {"variables": {"A": 1}, "L": ["x"]}
    text = "${{ FOO | default(3) }} ${{ variables.B | default('b') }} ${{ L[7] | d('none') }} ${{ (X | default({})).k | d(1) }}"
    assert evaluate(text, names) == "3 b none 1"
    with pytest.raises(ExpressionError, match="FOO"):
        evaluate("${{ FOO | upper }}", names)
