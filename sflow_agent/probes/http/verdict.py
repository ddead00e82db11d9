"""Judges an HTTP answer against a probe's check and says what is missing. Pure. Called by `checks.http`."""

from protocol.messages.checks import HttpCheck
from protocol.text.json_documents import documents
from protocol.text.json_expression import json_expression
from sflow_agent.probes.http.exchange import MAX_BODY_BYTES, Answer

SHOWN_CHARACTERS = 200


def verdict(check: HttpCheck, answer: Answer) -> tuple[bool, str] | None:
    """Return (holds, in words) as soon as it is certain; None while more of the answer is needed.

    A body is awaited only when the check has a condition on it, so an endless one delays nothing.
    """
    if not answer.has_head:
        return None
    status = f"HTTP {answer.status} {answer.reason}".strip()
    if not _is_expected(check, answer.status):
        return False, status
    for name, text in check.header:
        value = answer.header(name)
        if value is None or text not in value:
            found = "is missing" if value is None else f"is {value[:SHOWN_CHARACTERS]!r}"
            return False, f"{status}, but its header {name} {found}"
    if check.body_contains is not None and check.body_contains.encode() not in answer.body:
        if not answer.is_over:
            return None
        where = f"the first {MAX_BODY_BYTES} bytes of its body" if _is_full(answer) else "its body"
        return False, f"{status}, but {where} has no {check.body_contains[:SHOWN_CHARACTERS]!r}"
    if check.json is not None:
        if not answer.is_over:
            return None
        return _json_verdict(check.json, answer, status)
    return True, status


def _is_expected(check: HttpCheck, status: int) -> bool:
    return status in check.status if check.status else 200 <= status < 400


def _is_full(answer: Answer) -> bool:
    return answer.is_cut and len(answer.body) == MAX_BODY_BYTES


def _json_verdict(source: str, answer: Answer, status: str) -> tuple[bool, str]:
    if answer.is_cut:
        why = f"is longer than {MAX_BODY_BYTES} bytes" if _is_full(answer) else "ended too early"
        return False, f"{status}, but its body {why}"
    try:
        (document,) = documents(bytes(answer.body))
    except (ValueError, RecursionError):
        return False, f"{status}, but its body is not JSON"
    expression = json_expression(source)
    holds, why = expression.holds(document)
    return (
        (True, f"{status}, {expression.source}")
        if holds
        else (False, f"{status}, but {why} ({expression.source})")
    )
