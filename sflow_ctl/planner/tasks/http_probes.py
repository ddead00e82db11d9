"""Turns the format's http probes into checks for agents, and refuses requests that could never be sent."""

from collections.abc import Callable, Mapping
from typing import Any

from protocol.messages.checks import HttpCheck, Method
from protocol.text.json_expression import JsonExpressionError, json_expression
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.urls import split_url
from sflow_ctl.format import schema
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_flag, as_int, at

_NAME = lazy_pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header. Source: RFC 9110, 5.6.2."""


def plan_http(
    method: Method,
    http: schema.Http,
    evaluate: Callable[[Any], Any],
    sample: Callable[[str], str],
    path: tuple[str | int, ...],
) -> HttpCheck:
    """Return the check of an `http_get` or `http_post`.

    Deferred expressions stay in its texts as placeholders; `sample` replaces them by possible values.

    Raises: UnplannableError, NumberError.
    """
    url = str(evaluate(http.url))
    try:
        split_url(sample(url))
    except ValueError as error:
        hint = "write http://HOST:PORT/PATH"
        if "ports." in url:
            hint += "; ports.NAME is a list of all of them, port.NAME the first"
        raise UnplannableError("wrong-url", f'"{url}" {error}', hint, (*path, "url")) from error
    expression = None if http.json is None else str(evaluate(http.json))
    if expression is not None:
        try:
            json_expression(sample(expression))
        except JsonExpressionError as error:
            hint = "e.g. len(instances) >= 6 and status == 'ok'"
            what = f'"{expression}" {error}'
            raise UnplannableError("wrong-json-expression", what, hint, (*path, "json")) from error
    contains = None if http.body_contains is None else str(evaluate(http.body_contains))
    return HttpCheck(
        method=method,
        url=url,
        headers=_headers(http.headers, evaluate, (*path, "headers")),
        body=str(evaluate(http.body)) if http.body is not None and method == "POST" else None,
        status=tuple(_status(evaluate(status), (*path, "status")) for status in http.status),
        header=_headers(http.header, evaluate, (*path, "header")),
        body_contains=contains,
        json=expression,
        verify=at((*path, "verify"), as_flag, evaluate(http.verify)),
        ca_file=None if http.ca_file is None else str(evaluate(http.ca_file)),
        owner=http.owner,
    )


def _headers(
    headers: Mapping[str, str], evaluate: Callable[[Any], Any], path: tuple[str | int, ...]
) -> tuple[tuple[str, str], ...]:
    pairs = tuple((name, str(evaluate(value))) for name, value in headers.items())
    for name, value in pairs:
        if not _NAME.fullmatch(name):
            raise UnplannableError("wrong-header", f'"{name}" cannot be a header\'s name', path=(*path, name))
        if any(character in value for character in "\r\n\0"):
            what = f"the value of header {name} has more than one line"
            raise UnplannableError("wrong-header", what, path=(*path, name))
    return pairs


def _status(value: Any, path: tuple[str | int, ...]) -> int:
    status = at(path, as_int, value, 200)
    if status > 599:
        raise UnplannableError("wrong-value", f"{status} is not an HTTP status", "200 to 599", path)
    return status
