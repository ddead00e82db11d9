"""The language over JSON: values, refusals, and its bounded cost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.text.json_expression import JsonExpression, JsonExpressionError

DOCUMENT: dict[str, Any] = {
    "status": "ok",
    "instances": [{"name": "a", "ready": True, "load": 3}, {"name": "b", "ready": False, "load": 5}],
    "nested": {"deep": [[1, 2], [3, 4]]},
    "empty": [],
    "nothing": None,
    "é": 1,
}


@pytest.mark.parametrize(
    "source",
    [
        "len(instances) >= 2",
        'status == "ok" and not empty',
        "status in ['ok', 'ready']",
        "'o' in status",
        "'nested' in body",
        "body['status'] == body.status",
        "all(i['ready'] for i in instances) or any(i.ready for i in instances)",
        "sum([i.load for i in instances if i['ready']]) == 3",
        "sum(i.ready for i in instances) == 1",
        "max(i.load for i in instances) - min(i.load for i in instances) == 2",
        "nested.deep[-1][0] * 2 + 1 == 7",
        "len([x for row in nested.deep for x in row if x % 2 == 0]) == 2",
        "[i for i in empty] == []",
        "nothing is None and nothing == null",
        "1 < len(instances) <= 2 < 3",
        "(true if status == 'ok' else false) is True",
        "instances[0].name < instances[1].name",
        "-len(instances) == -2 and 7 // 2 == 3 and 7 / 2 == 3.5",
        "é == 1",
        "[status for status in [7]] == [7] and status == 'ok'",
        "len(body) == 6\n  and status == 'ok'",
    ],
)
def test_true_expressions(source: str) -> None:
    assert JsonExpression(source).holds(DOCUMENT) == (True, "")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("len(instances) >= 6", "len(instances) is 2"),
        ("status == 'ok' and len(empty) > 0", "len(empty) is 0"),
        ("status == 'up'", "status is 'ok'"),
        ("instances == []", "instances is a list of 2"),
        ("3 > 4", "3 > 4 is False"),
        ("empty", "empty is an empty list"),
        ("missing > 1", 'there is no "missing"'),
        ("body.other", 'there is no "other"'),
        ("instances[7].name", "there is no [7] in a list of 2"),
        ("status.length", "'ok' has no ['length']"),
        ("status > 3", "'ok' is not a number"),
        ("1 / len(empty) > 0", "1 and 0: division by zero"),
        ("min(empty) > 0", "an empty list has no minimum and no maximum"),
        ("é == 2 and status", "é is 1"),
    ],
)
def test_false_expressions_give_a_reason(source: str, why: str) -> None:
    assert JsonExpression(source).holds(DOCUMENT) == (False, why)


def test_a_document_that_is_not_a_mapping_is_body() -> None:
    assert JsonExpression("len(body) == 2 and body[0] == 1").holds([1, 2])[0]
    assert JsonExpression("len(body) == 2").holds(7) == (False, "7 has no length")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "a = 1",
        "__import__('os')",
        "body.__class__",
        "().__class__",
        "len.__self__",
        "_private",
        "body._x",
        "open('x')",
        "body.get('x')",
        "len(body, body)",
        "len(*body)",
        "len(obj=body)",
        "lambda: 1",
        "2 ** 99",
        "1 << 99",
        "f'{body}'",
        "b'x'",
        "...",
        "1j",
        "{}",
        "{x for x in body}",
        "{x: x for x in body}",
        "body[1:2]",
        "(x := 1)",
        "[(a, b) for (a, b) in body]",
        "[x async for x in body]",
        "await body",
        "yield",
        "~1",
        "1 @ 2",
        "1 if",
        "\0",
        "(" * 400 + ")" * 400,
        "-" * 900 + "1",
        "a or " * 150 + "a",
        "x" * 1001,
    ],
)
def test_invalid_expressions(source: str) -> None:
    with pytest.raises(JsonExpressionError):
        JsonExpression(source)


BIG: dict[str, Any] = {
    "items": list(range(100_000)),
    "text": "a" * 1_000_000,
    "deep": [[["x"] * 100] * 100] * 10,
}


@pytest.mark.parametrize(
    "source",
    [
        "[[b for b in items] for a in items]",
        "[a in items for a in items]",
        "[items == deep for a in items]",
        "[deep == deep for a in items]",
        "['b' in text for a in items]",
        "[text < text for a in items]",
        "[sum(items) for a in items]",
        "len([a for a in items for b in items for c in items])",
        "[[text for c in [1]] for b in items]",
        "9223372036854775807 * 9223372036854775807 * 9223372036854775807 > 0",
    ],
)
def test_an_expression_over_a_large_document_stops_at_its_budget(source: str) -> None:
    expression = JsonExpression(source)
    holds, why = expression.holds(BIG)
    assert not holds
    assert "too much" in why or "too large" in why


WORDS = st.sampled_from(
    [
        "body",
        "items",
        "text",
        "x",
        "_",
        "len(",
        "sum(",
        "any(",
        "[",
        "]",
        "(",
        ")",
        "1",
        "0",
        "-",
        "+",
        "*",
        "/",
        "%",
        "'a'",
        ".",
        ",",
        " for x in ",
        " if ",
        " else ",
        " in ",
        " and ",
        " not ",
        "<",
        "==",
        "is",
        "__class__",
        "**",
    ]
)


@given(st.lists(WORDS, max_size=25), st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_whatever_is_written_either_has_a_value_or_is_refused(words: list[str], items: Any) -> None:
    try:
        expression = JsonExpression("".join(words))
    except JsonExpressionError:
        return
    holds, why = expression.holds({"items": items, "text": "abc"})
    assert isinstance(holds, bool)
    assert holds or why
