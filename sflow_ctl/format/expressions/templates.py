"""`${{ ... }}` expressions: found, compiled once each, evaluated in a sandbox. jinja2 lives here,
imported when first needed.

Only `${{ }}` is special, so shell text such as `${#array[@]}` passes through; artifact content is a
whole template, as existing
files use it. Mapping keys come before a mapping's methods, and nothing that begins with `_` can be reached.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sflow_ctl.format.expressions.simple import UNKNOWN, evaluate_simple, simple
from sflow_ctl.plan.deferred import Evaluator
from sflow_ctl.plan.errors import ExpressionError

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

MARK = "${{"
MAX_BITS = 100_000
"""Of a number that an expression computes: far above any use, far below what takes a noticeable time."""
MAX_LENGTH = 10_000_000
"""Of a text or list that an expression repeats."""
_OF_OURS = re.compile(r"'sflow_ctl[.\w]* object'")
"""A type of this program in a message of the engine, which says nothing to a user."""
_RAW, _END_RAW = "{% raw %}", "{% endraw %}"


class Piece(NamedTuple):
    """Plain text, or an expression's source."""

    text: str
    is_expression: bool


def has_expression(value: object) -> bool:
    """True for a text with an expression in it."""
    return isinstance(value, str) and MARK in value


@lru_cache(maxsize=1)
def _environment() -> "SandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import SandboxedEnvironment

    class KeysFirst(SandboxedEnvironment):
        intercepted_binops = frozenset(("*", "**"))

        def getattr(self, obj: Any, attribute: str) -> Any:
            """A mapping's key before its method; then the sandbox's rules."""
            if isinstance(obj, Mapping) and attribute in obj:
                return obj[attribute]
            return super().getattr(obj, attribute)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """`*` and `**` unless the result would be too large to be meant."""
            if _is_too_large(operator, left, right):
                raise SecurityError(f"the result of {operator} would be too large")
            return super().call_binop(context, operator, left, right)

    return KeysFirst(
        variable_start_string=MARK,
        variable_end_string="}}",
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _is_too_large(operator: str, left: Any, right: Any) -> bool:
    if operator == "**":
        return isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_BITS
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple) and isinstance(times, int):
            return len(text) * times > MAX_LENGTH
    return (
        isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS
    )


@lru_cache(maxsize=65536)
def pieces(text: str) -> tuple[Piece, ...]:
    """Cuts a text at its expressions. Raises: ExpressionError for one that does not end or does not parse."""
    result: list[Piece] = []
    position = 0
    while True:
        start = text.find(MARK, position)
        raw = text.find(_RAW, position)
        if 0 <= raw < start or (raw >= 0 and start < 0):
            end = text.find(_END_RAW, raw)
            if end >= 0:
                result.append(Piece(text[position:raw] + text[raw + len(_RAW) : end], False))
                position = end + len(_END_RAW)
                continue
        if start < 0:
            result.append(Piece(text[position:], False))
            return tuple(piece for piece in result if piece.text or piece.is_expression)
        end = _expression_end(text, start)
        result.append(Piece(text[position:start], False))
        result.append(Piece(text[start + len(MARK) : end].strip(), True))
        position = end + 2


def _expression_end(text: str, start: int) -> int:
    """Where the expression that begins at `start` ends: the first `}}` before which it parses."""
    first_error: ExpressionError | None = None
    end = text.find("}}", start)
    while end >= 0:
        source = text[start + len(MARK) : end].strip()
        if simple(source) is not None:
            return end
        try:
            _compiled(source)
        except ExpressionError as error:
            first_error = first_error or error
            end = text.find("}}", end + 1)
            continue
        return end
    raise first_error or ExpressionError(
        f"an expression has no end: {_cut(text[start:])}", "close it with }}"
    )


@lru_cache(maxsize=65536)
def _compiled(source: str) -> Any:
    from jinja2 import TemplateSyntaxError

    if not source:
        raise ExpressionError("an expression is empty", "write a name or a value between ${{ and }}")
    try:
        return _environment().compile_expression(source, undefined_to_none=False)
    except TemplateSyntaxError as error:
        raise ExpressionError(
            f"expression syntax validation failed: {error.message}: {_cut(source)}"
        ) from error
    except (RecursionError, MemoryError, ValueError, OverflowError, SyntaxError) as error:
        raise ExpressionError(f"expression syntax validation failed: {error}: {_cut(source)}") from error


def check_syntax(text: str) -> None:
    """Compiles all expressions of a text without evaluating any. Raises: ExpressionError."""
    pieces(text)


def check_template(text: str) -> None:
    """Compiles a whole template. Raises: ExpressionError."""
    _template(text)


def names_used(text: str) -> frozenset[str]:
    """Names that the expressions of a text need from outside. Raises: ExpressionError."""
    used: set[str] = set()
    for piece in pieces(text):
        if not piece.is_expression:
            continue
        parts = simple(piece.text)
        if parts is not None:
            used |= {atom.name for atom in (parts.left, parts.right) if atom is not None and atom.name}
        else:
            from jinja2 import meta

            environment = _environment()
            used |= meta.find_undeclared_variables(environment.parse(f"{MARK} {piece.text} }}}}"))
    return frozenset(used)


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """The text with its expressions replaced; the native value when the whole text is one expression.

    Raises: ExpressionError with the real cause.
    """
    parts = pieces(text)
    if len(parts) == 1 and parts[0].is_expression:
        return _evaluate_one(parts[0].text, names)
    return "".join(
        as_text(_evaluate_one(part.text, names)) if part.is_expression else part.text for part in parts
    )


def evaluate_any(value: Any, names: Mapping[str, Any]) -> Any:
    """A value with the expressions in all of its texts evaluated. Raises: ExpressionError."""
    if isinstance(value, str):
        return evaluate(value, names) if MARK in value else value
    if isinstance(value, list):
        return [evaluate_any(item, names) for item in value]
    if isinstance(value, dict):
        return {key: evaluate_any(item, names) for key, item in value.items()}
    return value


def template_names(text: str) -> frozenset[str]:
    """Names that a whole template needs from outside. Raises: ExpressionError."""
    from jinja2 import meta

    check_template(text)
    return frozenset(meta.find_undeclared_variables(_environment().parse(text)))


def render_template(text: str, names: Mapping[str, Any]) -> str:
    """A whole template with statements, for artifact content. Keeps the last newline. Raises:
    ExpressionError.
    """
    template = _template(text)
    try:
        rendered: str = template.render(names)
    except Exception as error:
        raise _explain(error, text) from error
    return rendered


@lru_cache(maxsize=1024)
def _template(text: str) -> Any:
    from jinja2 import TemplateSyntaxError

    try:
        return _environment().from_string(text)
    except TemplateSyntaxError as error:
        raise ExpressionError(
            f"expression syntax validation failed: {error.message} (line {error.lineno} of the content)"
        ) from error


def as_text(value: Any) -> str:
    """A value inside a text: Python's spelling, which is what the format promises."""
    return value if isinstance(value, str) else str(value)


def _evaluate_text(text: str, names: Mapping[str, Any]) -> str:
    return as_text(evaluate(text, names))


EVALUATOR = Evaluator(text=_evaluate_text, template=lambda text, names: render_template(text, names))
"""How deferred values of a run are evaluated."""


def _evaluate_one(source: str, names: Mapping[str, Any]) -> Any:
    parts = simple(source)
    if parts is not None:
        quick = evaluate_simple(parts, names)
        if quick is not UNKNOWN:
            return quick
    from jinja2 import Undefined

    compiled = _compiled(source)
    try:
        value = compiled(**names)
    except Exception as error:
        raise _explain(error, source) from error
    if isinstance(value, Undefined):
        try:
            value._fail_with_undefined_error()
        except Exception as error:
            raise _explain(error, source) from error
    return value


def _explain(error: Exception, source: str) -> ExpressionError:
    from jinja2.exceptions import SecurityError, UndefinedError

    if isinstance(error, ExpressionError):  # of a namespace, which knows better
        return error
    shown = _cut(source) if MARK in source else f"${{{{ {_cut(source)} }}}}"
    if isinstance(error, UndefinedError):
        message = _OF_OURS.sub("it", str(error.message))
        return ExpressionError(f"Undefined variable in expression: {message}: {shown}", is_undefined=True)
    if isinstance(error, SecurityError):
        return ExpressionError(f"not allowed in an expression: {error}: {shown}")
    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ExpressionError(f"an expression failed: {cause}: {shown}")


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
