"""No expression or template takes long or much memory: counted steps are asserted, not the time."""

from typing import Any

import pytest

from sflow_ctl.format.expressions import templates
from sflow_ctl.format.expressions.budget import MAX_WORDS
from sflow_ctl.format.expressions.templates import EVALUATOR, check_template, evaluate, render_template
from sflow_ctl.plan.errors import ExpressionError

NAMES: dict[str, Any] = {"t": "x", "l": [1, 2], "big": list(range(100, 100_000)), "A": 10**30}


@pytest.mark.parametrize(
    "source", ["10 ** (10 ** 8)", "'x' * 10 ** 12", "[1] * A", "A * A ** 9999", "range(10 ** 9) | list"]
)
def test_a_result_that_would_be_huge_is_refused_at_once(source: str) -> None:
    with pytest.raises(ExpressionError, match=r"too large|too big|[Rr]ange"):
        evaluate(f"${{{{ {source} }}}}", NAMES)


@pytest.mark.parametrize(
    "source",
    [
        "'%300000000s' % t",
        "'%.300000000f' % 1",
        "'%*d' % (300000000, 1)",
        "'%300000000s' | format(t)",
        "'{:300000000}'.format(t)",
        "'{:{w}}'.format(1, w=300000000)",
        "'{x:300000000}'.format_map({'x': 1})",
        "t.center(300000000)",
        "t.ljust(300000000)",
        "t.rjust(300000000)",
        "t.zfill(300000000)",
        "(t ~ '\t').expandtabs(300000000)",
        "t | center(300000000)",
        "t | center(width=300000000)",
        "t | indent(300000000)",
        "l | tojson(indent=300000000)",
        "l | batch(300000000, 'x') | list",
        "[t] | map('center', 300000000) | list",
        "(t * 1000000).replace('x', t * 1000)",
        "(t * 1000000) | replace('x', t * 1000)",
        "([t * 1000000] * 99999) | join",
        "(t * 1000000).join([t * 1000000] * 9999)",
        "(t * 6000000) ~ (t * 6000000)",
        "(t * 6000000) + (t * 6000000)",
        "[t] * 20000000",
        "t.encode() * 300000000",
        "t.encode().ljust(300000000)",
        "('%300000000d'.encode() % 1) | length",
        "(t * 100000).encode().replace(t.encode(), (t * 100000).encode())",
        "(1).to_bytes(300000000, 'big')",
        "('a\n' * 100000) | indent(100000)",
        "('a\n' * 100000) | indent(t * 100000)",
        "('a b ' * 30000) | wordwrap(2, true, t * 100000)",
        "('\t' * 100000).expandtabs(99999)",
        "range(99999) | map('center', 99999) | list",
        "range(99999) | map('replace', '1', t * 9999) | list",
        "('{0:99999}' * 10000).format(1)",
        "('{0:{1}}' * 10000).format(1, 99999)",
        "('%99999d' * 10000) | format(1)",
        "('{a}' * 10000).format_map({'a': t * 100000})",
        "([1] * 1000) | tojson(indent=999999)",
        "([[1]] * 1000) | tojson(indent=t * 999999)",
        "[[[[[1] * 99] * 99] * 99] * 99] == [[[[[1] * 99] * 99] * 99] * 99]",
        "(t * 9000000) | groupby('x')",
        "(t * 9000000) | sort",
    ],
)
def test_s2_a_text_that_would_be_huge_is_not_made(source: str) -> None:
    with pytest.raises(ExpressionError, match="computes too much"):
        evaluate(f"${{{{ {source} }}}}", NAMES)
    with pytest.raises(ExpressionError, match="computes too much"):
        render_template(f"a ${{{{ {source} }}}} b", NAMES)


@pytest.mark.parametrize(
    "source",
    ["10 ** 4300", "-(10 ** 4300)", "[10 ** 4300]", "{'a': 10 ** 4300}", "('9' * 5000) | int(base=16)"],
)
def test_n5_a_number_of_more_digits_than_python_writes_is_an_error(source: str) -> None:
    with pytest.raises(ExpressionError, match="more than 4300 digits"):
        evaluate(f"${{{{ {source} }}}}", NAMES)
    with pytest.raises(ExpressionError, match="more than 4300 digits"):
        render_template(f"a ${{{{ {source} }}}} b", NAMES)


def test_the_largest_number_that_python_writes_is_computed() -> None:
    assert evaluate("${{ 10 ** 4298 }}", NAMES) == 10**4298
    assert evaluate("x${{ 10 ** 4298 }}", NAMES) == "x1" + "0" * 4298


LOOP = "{% for i in range(99999) %}"


@pytest.mark.parametrize(
    "template",
    [
        LOOP + LOOP + "{% endfor %}{% endfor %}",
        LOOP + LOOP + "x{% endfor %}{% endfor %}",
        LOOP + "x" * 1000 + "{% endfor %}",
        LOOP + "${{ t * 1000 }}{% endfor %}",
        "{% set x %}" + LOOP + "${{ t * 1000 }}{% endfor %}{% endset %}",
        LOOP + "{% if i in big %}{% endif %}{% endfor %}",
        LOOP + "{% if i is in big %}{% endif %}{% endfor %}",
        LOOP + "{% set y = big[1:] %}{% endfor %}",
        LOOP + "{% set y = big | sum %}{% endfor %}",
        LOOP + "{% set y = big | map('string') | list %}{% endfor %}",
        LOOP + "{% set y = big + big %}{% endfor %}",
        "{% macro f(n) %}{% if n %}${{ f(n - 1) }}${{ f(n - 1) }}{% endif %}{% endmacro %}${{ f(40) }}",
        "{% set n = namespace(x='x') %}" + LOOP + "{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='x') %}" + LOOP + "{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set l2 = [1] %}" + LOOP + "{% set _ = l2.extend(l2) %}{% endfor %}",
    ],
)
def test_s2_a_template_that_would_not_end_is_stopped(template: str) -> None:
    with pytest.raises(ExpressionError, match="computes too much"):
        render_template(template, NAMES)


def test_usual_sizes_are_computed() -> None:
    assert evaluate("${{ 2 ** 62 }}", {}) == 2**62
    assert evaluate("${{ '-' * 80 }}", {}) == "-" * 80
    assert evaluate("${{ 1.5 * 2 }} ${{ [0] * 2 }}", {}) == "3.0 [0, 0]"
    assert evaluate("${{ '{} {:>5}'.format(5000000000, 1) }}", {}) == "5000000000     1"
    assert evaluate("${{ '%05d' % 7 }}${{ 7 % 4 }}${{ t | default(99999999999) }}", NAMES) == "000073x"
    assert evaluate("${{ range(100000) | list | length }}", {}) == 100_000
    nodes = "{% for i in range(50000) %}server node${{ i }};{% if not loop.last %}\n{% endif %}{% endfor %}"
    assert render_template(nodes, {}).count("\n") == 49_999


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("range(3)", [0, 1, 2]),
        ("{'a': 1}.items()", [("a", 1)]),
        ("{'a': 1}.keys()", ["a"]),
        ("l | map('string')", ["1", "2"]),
        ("t | escape", "x"),
        ("{'a': range(2)}", {"a": [0, 1]}),
    ],
)
def test_n5_a_result_is_plain_data(source: str, value: object) -> None:
    found = evaluate(f"${{{{ {source} }}}}", NAMES)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "source", ["self", "t.upper", "namespace(a=1)", "'a'.encode()", "range", "[t.upper]", "{'a': self}"]
)
def test_n5_a_result_that_is_not_data_is_an_error(source: str) -> None:
    for text in (f"${{{{ {source} }}}}", f"echo ${{{{ {source} }}}}"):
        with pytest.raises(ExpressionError, match="an expression has no value"):
            evaluate(text, NAMES)
    with pytest.raises(ExpressionError):
        render_template(f"${{{{ {source} }}}}", NAMES)


@pytest.mark.parametrize(
    "source",
    ["[1] | map(attribute='x') | list", "[nope]", "{'a': nope}", "[1] | map(attribute='x')", "(1, l.x)"],
)
def test_n5_a_missing_name_inside_a_result_is_an_error(source: str) -> None:
    for text in (f"${{{{ {source} }}}}", f"echo ${{{{ {source} }}}}"):
        with pytest.raises(ExpressionError, match="unknown ") as caught:
            evaluate(text, NAMES)
        assert caught.value.is_undefined
    with pytest.raises(ExpressionError, match="unknown "):
        render_template(f"${{{{ {source} }}}}", NAMES)


def test_n5_lists_that_contain_themselves_are_an_error() -> None:
    with pytest.raises(ExpressionError, match="nested too deeply"):
        render_template("{% set a = [] %}{% set _ = a.append(a) %}${{ a }}", {})
    with pytest.raises(ExpressionError, match="nested too deeply"):
        render_template("{% macro f() %}${{ f() }}{% endmacro %}${{ f() }}", {})


def test_a_missing_name_is_named_with_the_nearest_one() -> None:
    names = {"PORT": 1, "variables": {"PORT": 1}}
    for source in ("PROT", "variables.PROT", "variables['PROT'] + 1"):
        with pytest.raises(ExpressionError) as caught:
            evaluate(f"${{{{ {source} }}}}", names)
        assert caught.value.text == f'unknown variable "PROT" in ${{{{ {source} }}}}'
        assert caught.value.hint == 'did you mean "PORT"?'


def test_every_wrong_expression_of_a_text_is_found() -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate("${{ PROT }} ${{ POTR }} ${{ PORT }} ${{ PROT }} ${{ 1 // 0 }}", {"PORT": 1})
    assert '"PROT"' in caught.value.text
    assert ['"POTR"' in caught.value.others[0].text, "ZeroDivisionError" in caught.value.others[1].text] == [
        True
    ] * 2
    assert len(caught.value.others) == 2


MISSING = "([1] | map(attribute='x') | list)"


@pytest.mark.parametrize(
    "source",
    [
        f"{MISSING} | string",
        f"{MISSING} ~ 'x'",
        f"'%s' % {MISSING}",
        f"'%s' % ({MISSING}, )",
        f"'%(a)s' % {{'a': {MISSING}}}",
        f"'{{}}'.format({MISSING})",
        "'{a}'.format(a=[nope])",
        f"'{{a}}'.format_map({{'a': {MISSING}}})",
        f"'%s' | format({MISSING})",
        f"{MISSING} | join(',')",
        f"{MISSING} | tojson",
        f"{MISSING} | upper",
        f"'abc' | replace('b', {MISSING})",
        f"{{'k': {MISSING}}} | string",
        f"{{{MISSING} | string: 1}}",
    ],
)
def test_n5_no_undefined_value_becomes_a_text(source: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(f"${{{{ {source} }}}}", NAMES)
    assert caught.value.is_undefined
    with pytest.raises(ExpressionError):
        render_template(f"${{{{ {source} }}}}", NAMES)


@pytest.mark.parametrize(
    "source",
    [
        *("range | string", "'a' ~ range", "'%s' % range", "'{}'.format(range)", "'a'.upper | string"),
        *("self | string", "[range, t.upper] | join(',')", "range | upper", "'abc' | replace('b', range)"),
        "range | tojson",
    ],
)
def test_n5_no_description_of_an_object_becomes_a_text(source: str) -> None:
    with pytest.raises(ExpressionError, match=r"call it|not defined|undefined"):
        evaluate(f"${{{{ {source} }}}}", NAMES)


@pytest.mark.parametrize(
    "source",
    [
        "[[(range(10000) | list)] * 1000] * 1000",
        "([[(range(10000) | list)] * 1000] * 1000) | string",
        "['x' * 9999999] * 1000",
        "dict(a=['x' * 9999999] * 1000)",
        "'%s' % [['x' * 9999999] * 1000]",
        "'{}'.format(['x' * 9999999] * 1000)",
        "(['x' * 9999999] * 1000) ~ ''",
        "(['x' * 9999999] * 1000) | tojson",
        "(['x' * 9999999] * 1000) | unique | list",
        "(['x' * 9999999] * 1000) | sort | first",
        "(['x' * 9999999] * 100000) | max | length",
        "(['x' * 9999999] * 100000) | min | length",
        "(['x' * 9999999] * 1000).count('x' * 9999999)",
        "(['x' * 9999999] * 1000) == (['y' * 9999999] * 1000)",
        "([[1] * 100000] * 10000) | sum(start=[]) | length",
        "('x ' * 999999) | wordwrap(1) | length",
    ],
)
def test_s2_one_large_member_many_times_is_counted_as_often(source: str) -> None:
    with pytest.raises(ExpressionError, match="computes too much"):
        evaluate(f"${{{{ {source} }}}}", NAMES)


def test_s2_a_deferred_value_has_the_same_budget() -> None:
    """The scheduler evaluates these: one that does not end would stop the controller."""
    for source in ("['x' * 9999999] * 1000", "range(99999) | map('string') | join | length ~ (l * 9999999)"):
        with pytest.raises(ExpressionError):
            EVALUATOR.text(f"${{{{ {source} }}}}", NAMES)
    with pytest.raises(ExpressionError, match="computes too much"):
        EVALUATOR.template(
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", NAMES
        )


def test_s2_expressions_of_one_text_have_a_limit_together() -> None:
    names = {"v": "x" * 6_000_000}
    assert len(evaluate("a${{ v }}", names)) == 6_000_001
    with pytest.raises(ExpressionError, match="more than 10000000 characters"):
        evaluate("${{ v }}${{ v }}${{ v }}", names)


NESTED = {
    "ifs": "{% if 1 %}" * 300 + "x" + "{% endif %}" * 300,
    "sets": "{% set a %}" * 300 + "x" + "{% endset %}" * 300,
    "filters": "{% filter upper %}" * 300 + "x" + "{% endfilter %}" * 300,
    "parentheses": "${{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "loops": "{% for i in [1] %}" * 100 + "x" + "{% endfor %}" * 100,
}


@pytest.mark.parametrize("name", NESTED)
def test_s2_a_template_that_is_nested_too_deeply_is_refused(name: str) -> None:
    with pytest.raises(ExpressionError, match=r"nested|recursion|too many levels"):
        render_template(NESTED[name], NAMES)


@pytest.mark.parametrize(
    "source",
    [" ~ ".join(["t"] * 20_000), "t" + "|upper" * 20_000, "[" + "1," * 20_000 + "]", "t" + ".a" * 20_000],
)
def test_s2_an_expression_of_too_many_words_is_not_compiled(source: str) -> None:
    with pytest.raises(ExpressionError, match=f"more than {MAX_WORDS} words and signs"):
        evaluate(f"${{{{ {source} }}}}", NAMES)


def test_s2_a_template_of_too_many_expressions_is_not_compiled() -> None:
    text = "${{ t }}\n" * 6000
    with pytest.raises(ExpressionError, match=rf"more than {MAX_WORDS} words and signs.*\(line 5001 of the"):
        check_template(text)
    assert evaluate(text, NAMES) == "x\n" * 6000, "those of a text are compiled one by one"


def test_s2_the_end_of_an_expression_is_not_sought_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    compiled = templates._compiled

    def compile_one(source: str) -> object:
        tried.append(source)
        return compiled(source)

    monkeypatch.setattr(templates, "_compiled", compile_one)
    with pytest.raises(ExpressionError, match="syntax validation failed"):
        evaluate("${{ ( " + "}} " * 1000, NAMES)
    assert len(tried) == templates.MAX_ENDS
    assert evaluate("${{ {'a': {'b': {}}}['a']['b'] }}", NAMES) == {}
