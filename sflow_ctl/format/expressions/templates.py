"""Finds `${{ ... }}` expressions in texts, compiles each once and evaluates them. The engine is imported when first needed.

Only `${{ }}` is special, so shell text such as `${#array[@]}` passes through; the content of artifacts and files is a whole
template. `engine` holds the sandbox and its budget, `simple` the commonest expressions, which need no engine.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import Struct

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.expressions.simple import UNKNOWN, evaluate_simple, simple
from sflow_ctl.plan.deferred import Evaluator
from sflow_ctl.plan.errors import ExpressionError

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

    from sflow_ctl.format.expressions.engine import UnknownNameError

EXPRESSION_START = "${{"
MAX_TEXT = 10_000_000
"""Characters that the expressions of one text may make together."""
MAX_ENDS = 50
"""How many `}}` are tried as the end of an expression: dictionaries within it may have some."""
DOMAINS = "_domains"
"""The name under which expressions find the domains of variables, for `variables.NAME.domain`."""
_OF_OURS = lazy_pattern(r"'sflow_ctl[.\w]* object'")
"""A type of this program in a message of the engine, which means nothing to a user."""
_STATEMENT = r"\{%[^%]*\b(?:task|variables|backends|artifacts|workflow|replica|ports?)\s*[.\[]"
"""A statement on one of our names: the content of a file that has one is meant as a template."""
_RAW, _END_RAW = "{% raw %}", "{% endraw %}"


class Piece(Struct, frozen=True):
    """Plain text, or an expression's source."""

    text: str
    is_expression: bool


def has_expression(value: object) -> bool:
    """Return True for a text with an expression in it."""
    return isinstance(value, str) and EXPRESSION_START in value


def is_template(content: str) -> bool:
    """Return whether the content of a task's file is to be rendered: it has an expression, or a statement on our names.

    Other statements (`{% for message in messages %}` of a chat template) are the file's own.
    """
    return EXPRESSION_START in content or ("{%" in content and re.search(_STATEMENT, content) is not None)


def _environment() -> "SandboxedEnvironment":
    from sflow_ctl.format.expressions.engine import environment

    return environment()


@lru_cache(maxsize=65536)
def pieces(text: str) -> tuple[Piece, ...]:
    """Cut a text at its expressions. Raises: ExpressionError for one that does not end or does not parse."""
    result: list[Piece] = []
    position = 0
    while True:
        start = text.find(EXPRESSION_START, position)
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
        result.append(Piece(text[start + len(EXPRESSION_START) : end].strip(), True))
        position = end + 2


def _expression_end(text: str, start: int) -> int:
    """Return the end of the expression that begins at `start`: the first `}}` before which it parses."""
    first_error: ExpressionError | None = None
    end, tries = text.find("}}", start), 0
    while end >= 0 and tries < MAX_ENDS:
        tries += 1
        source = text[start + len(EXPRESSION_START) : end].strip()
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
    """Compile all expressions of a text without evaluating any. Raises: ExpressionError."""
    pieces(text)


def check_template(text: str) -> None:
    """Compile a whole template. Raises: ExpressionError."""
    _template(text)


def names_used(text: str) -> frozenset[str]:
    """Return the names that the expressions of a text need from outside. Raises: ExpressionError."""
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
            used |= meta.find_undeclared_variables(environment.parse(f"{EXPRESSION_START} {piece.text} }}}}"))
    return frozenset(used)


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """Return the text with its expressions replaced; the native value when the whole text is one expression.

    Raises: ExpressionError with the real cause of the first failure; the failures of further expressions are its `others`.
    """
    parts = pieces(text)
    if len(parts) == 1 and parts[0].is_expression:
        return _evaluate_one(parts[0].text, names)
    done: list[str] = []
    errors: dict[str, ExpressionError] = {}
    size = 0
    for part in parts:
        if not part.is_expression:
            done.append(part.text)
            continue
        try:
            done.append(as_text(_evaluate_one(part.text, names)))
            size += len(done[-1])
            if size > MAX_TEXT:
                what = f"expressions make a text of more than {MAX_TEXT} characters: {_cut(text)}"
                raise ExpressionError(what, "let a program compute it")
        except ExpressionError as error:
            errors.setdefault(error.text, error)
            if size > MAX_TEXT:
                break
    if errors:
        first, *others = errors.values()
        first.others = tuple(others)
        raise first
    return "".join(done)


def evaluate_any(value: Any, names: Mapping[str, Any]) -> Any:
    """Return a value with the expressions in all of its texts evaluated. Raises: ExpressionError."""
    if isinstance(value, str):
        return evaluate(value, names) if EXPRESSION_START in value else value
    if isinstance(value, list):
        return [evaluate_any(item, names) for item in value]
    if isinstance(value, dict):
        return {key: evaluate_any(item, names) for key, item in value.items()}
    return value


def template_names(text: str) -> frozenset[str]:
    """Return the names that a whole template needs from outside. Raises: ExpressionError."""
    from jinja2 import meta

    check_template(text)
    return frozenset(meta.find_undeclared_variables(_environment().parse(text)))


def render_template(text: str, names: Mapping[str, Any]) -> str:
    """Return a whole template with its statements executed, for content. Keeps the last newline. Raises: ExpressionError."""
    from sflow_ctl.format.expressions.budget import within_budget

    template = _template(text)
    try:
        rendered: str = within_budget(lambda: template.render(names))
    except Exception as error:  # noqa: BLE001 - whatever a user's template raises
        _fail(error, text, names)
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
    except RecursionError as error:
        raise ExpressionError(
            "expression syntax validation failed: its statements are nested too deeply"
        ) from error
    except (MemoryError, ValueError, OverflowError, SyntaxError) as error:
        raise ExpressionError(f"expression syntax validation failed: {error}") from error


def as_text(value: Any) -> str:
    """Return a value as it is spelled inside a text: Python's spelling, which the format promises."""
    return value if isinstance(value, str) else str(value)


def _evaluate_text(text: str, names: Mapping[str, Any]) -> str:
    return as_text(evaluate(text, names))


EVALUATOR = Evaluator(
    text=_evaluate_text,
    template=lambda text, names: render_template(text, names),
    value=lambda text, names: evaluate(text, names),
)
"""Evaluates the deferred values of a run."""


def _evaluate_one(source: str, names: Mapping[str, Any]) -> Any:
    parts = simple(source)
    if parts is not None:
        quick = evaluate_simple(parts, names)
        if quick is not UNKNOWN:
            return quick
    from sflow_ctl.format.expressions.budget import within_budget
    from sflow_ctl.format.expressions.plain_data import plain_result

    compiled = _compiled(source)
    try:
        return within_budget(lambda: plain_result(compiled(**names)))
    except Exception as error:  # noqa: BLE001 - whatever a user's expression raises
        _fail(error, source, names)


def _fail(error: Exception, source: str, names: Mapping[str, Any]) -> NoReturn:
    raise _explain(error, source, names) from error


def _explain(error: Exception, source: str, names: Mapping[str, Any]) -> ExpressionError:
    from jinja2.exceptions import SecurityError, UndefinedError
    from jinja2.sandbox import MAX_RANGE

    from sflow_ctl.format.expressions.budget import BudgetError
    from sflow_ctl.format.expressions.engine import UnknownNameError
    from sflow_ctl.format.expressions.plain_data import ResultError

    if isinstance(error, ExpressionError):  # of a namespace, which knows better
        return error
    shown = _cut(source) if EXPRESSION_START in source else f"${{{{ {_cut(source)} }}}}"
    if isinstance(error, UnknownNameError):
        return _unknown_name(error, shown, names)
    if isinstance(error, UndefinedError):
        message = _OF_OURS.sub("it", str(error.message))
        return ExpressionError(f"unknown name in an expression: {message}: {shown}", is_undefined=True)
    if isinstance(error, OverflowError) and "MAX_RANGE" in str(error):
        error = BudgetError(f"a range has more than {MAX_RANGE} members")
    if isinstance(error, BudgetError):
        hint = "let a program compute it: in the script, or in the task's own files"
        return ExpressionError(f"an expression computes too much: {error}: {shown}", hint)
    if isinstance(error, SecurityError):
        return ExpressionError(f"not allowed in an expression: {error}: {shown}")
    if isinstance(error, ResultError):
        return ExpressionError(f"an expression has no value: {error}: {shown}")
    if isinstance(error, RecursionError):
        return ExpressionError(f"an expression failed: it is nested too deeply: {shown}")
    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ExpressionError(f"an expression failed: {cause}: {shown}")


def _unknown_name(error: "UnknownNameError", shown: str, names: Mapping[str, Any]) -> ExpressionError:
    """Explain a name that is missing by itself, or in a mapping such as `variables`."""
    within = names if error.within is None else error.within
    known = [str(name) for name in within]
    owner = next((name for name, value in names.items() if value is error.within), None)
    guess = nearest(error.name, known)
    hint = None if guess is None else f'did you mean "{guess}"?'
    is_variable = error.within is None or owner == "variables"
    missing = f'unknown variable "{error.name}"' if is_variable else f'unknown name "{error.name}"'
    where = f" of {owner}" if owner is not None and not is_variable else ""
    what = f"{missing}{where} in {shown}"
    return ExpressionError(what, hint, is_undefined=True)


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
