"""How far a task is, as its program says: reading its lines, and putting it into words. Pure."""

import json
import math
from typing import Any

from protocol.text.ansi import printable_line
from protocol.text.line_pattern import LinePattern
from sflow_ctl.report.run_view import TaskProgress

MAX_MESSAGE = 200
MAX_MATCHES = 1000
"""Of an expression in one line."""


def progress_in(line: str, pattern: LinePattern) -> TaskProgress | None:
    """Return what a line of a log says: the last match of an expression for it; None without a number."""
    found = pattern.matches(line, MAX_MATCHES)
    if not found:
        return None
    groups, named = found[-1], pattern.named(found[-1])
    if not named:
        named = {"current": groups[1], "total": groups[2] if len(groups) > 2 else None}
    current, total = _number(named.get("current")), _number(named.get("total"))
    if current is None and (percent := _number(named.get("percent"))) is not None:
        current = percent / 100
    message = printable_line(named.get("message") or "")[:MAX_MESSAGE]
    return None if current is None else TaskProgress(current, total, message)


def parsed_progress(line: str) -> TaskProgress | None:
    """Return what a line says: `12/100`, `0.12`, or `{"current": 12, "total": 100, "message": "..."}`; else None."""
    text = line.strip()
    if text.startswith("{"):
        return _of_json(text)
    current, slash, total = text.partition("/")
    first, second = _number(current), _number(total) if slash else None
    if first is None or (slash and second is None):
        return None
    return TaskProgress(first, second)


def _of_json(text: str) -> TaskProgress | None:
    try:
        given = json.loads(text)
    except ValueError:
        return None
    current, total = _number(given.get("current")), _number(given.get("total"))
    if current is None:
        return None
    message = given.get("message")
    shown = printable_line(message)[:MAX_MESSAGE] if isinstance(message, str) else ""
    return TaskProgress(current, total, shown)


def _number(value: Any) -> float | None:
    """Return a finite number; None for what is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
