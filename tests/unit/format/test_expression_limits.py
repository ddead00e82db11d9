"""No expression builds a huge value: it is refused before the memory for it is taken."""

import tracemalloc

import pytest

from sflow_ctl.format.expressions.templates import evaluate
from sflow_ctl.plan.errors import ExpressionError


@pytest.mark.parametrize(
    "source", ["10 ** (10 ** 8)", "'x' * 10 ** 12", "[1] * A", "A * A ** 9999", "range(10 ** 9) | list"]
)
def test_a_result_that_would_be_huge_is_refused_at_once(source: str) -> None:
    tracemalloc.start()
    with pytest.raises(ExpressionError, match=r"too large|too big|[Rr]ange"):
        evaluate(f"${{{{ {source} }}}}", {"A": 10**30})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_usual_sizes_are_computed() -> None:
    assert evaluate("${{ 2 ** 62 }}", {}) == 2**62
    assert evaluate("${{ '-' * 80 }}", {}) == "-" * 80
    assert evaluate("${{ 1.5 * 2 }} ${{ [0] * 2 }}", {}) == "3.0 [0, 0]"
