"""No expression takes long or much memory."""

import time

import pytest

from sflow_ctl.format.expressions.templates import evaluate
from sflow_ctl.plan.errors import ExpressionError


@pytest.mark.parametrize(
    "source", ["10 ** (10 ** 8)", "'x' * 10 ** 12", "[1] * A", "A * A ** 9999", "range(10 ** 9) | list"]
)
def test_a_result_that_would_be_huge_is_refused_at_once(source: str) -> None:
    started = time.monotonic()
    with pytest.raises(ExpressionError, match=r"too large|too big|[Rr]ange"):
        evaluate(f"${{{{ {source} }}}}", {"A": 10**30})
    assert time.monotonic() - started < 1


def test_usual_sizes_are_computed() -> None:
    assert evaluate("${{ 2 ** 62 }}", {}) == 2**62
    assert evaluate("${{ '-' * 80 }}", {}) == "-" * 80
    assert evaluate("${{ 1.5 * 2 }} ${{ [0] * 2 }}", {}) == "3.0 [0, 0]"
