"""The template engine in its sandbox: Jinja2 with mapping keys first, without private names, within a budget.

Imported late. An expression must not stop the controller or fill its memory. So every loop iteration, call,
filter and operator counts against the budget of one evaluation (`budget`), and sizes are checked before a value is made.
Only `templates` uses this module.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

from jinja2 import StrictUndefined, nodes, pass_environment
from jinja2.exceptions import UndefinedError
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.expressions.budget import (
    CALL_STEPS,
    MAX_BITS,
    MAX_NUMBER,
    BudgetError,
    budget_of_this,
    check_length,
    size_of,
    spend,
    spend_reading,
    text_size,
    weight,
)
from sflow_ctl.format.expressions.variable_fields import DOMAINS, OF_VARIABLES, of_variable, variable_named

EXPRESSION_START = "${{"
_WIDE = lazy_pattern(r"\d{7,}")
_REMOVED = ("lipsum", "cycler", "joiner")
"""Globals of Jinja2 that no workflow needs."""


class UnknownNameError(UndefinedError):
    """A missing name: the name, and the mapping in which it was looked up, if any."""

    def __init__(self, message: str, name: Any, within: Any) -> None:
        super().__init__(message)
        self.name, self.within = name, within


class ResultError(Exception):
    """A result that is not plain data."""


def plain_result(value: Any) -> Any:
    """Return a result as plain data: generators and ranges as lists.

    Its members, and the characters that all of it has as text, are limited: a list may hold one long member many times.
    Raises: UndefinedError, ResultError, BudgetError.
    """
    result = _plain(value)
    if isinstance(result, list | tuple | dict):
        check_length(text_size(result))
    return result


def _plain(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, StrictUndefined):
        value._fail_with_undefined_error()
    if depth > 100:
        raise ResultError("its lists are nested too deeply")
    if isinstance(value, dict | list | tuple):
        spend(1 + len(value))
    if isinstance(value, dict):
        return {_plain(key, depth + 1): _plain(member, depth + 1) for key, member in value.items()}
    if isinstance(value, list):
        return [_plain(member, depth + 1) for member in value]
    if isinstance(value, tuple):
        members = (_plain(member, depth + 1) for member in value)
        return type(value)(*members) if hasattr(value, "_fields") else tuple(members)
    if isinstance(value, range | Iterator | set | frozenset) or type(value) in _VIEWS:
        return [_plain(member, depth + 1) for member in _counted(value)]
    if isinstance(value, Mapping | Sequence) and not isinstance(value, bytes):
        return value
    raise ResultError("it is a function or an object: call it, or use one of its fields")


_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))


@functools.lru_cache(maxsize=1)
def environment() -> SandboxedEnvironment:
    """Return the one environment of this process."""
    made = _KeysFirst(
        variable_start_string=EXPRESSION_START,
        variable_end_string="}}",
        undefined=_Undefined,
        keep_trailing_newline=True,
        autoescape=False,
        finalize=_written,
    )
    for name in _REMOVED:
        made.globals.pop(name, None)
    for name, function in list(made.filters.items()):
        made.filters[name] = _budgeted_filter(name, function)
    made.filters[_COUNTED] = _counted
    made.filters[_OF_VARIABLE] = pass_environment(of_variable)
    made.filters[_JOINED] = _joined
    made.filters[_WEIGHED] = _weighed
    tests: dict[str, Any] = made.tests
    for name, function in list(tests.items()):
        tests[name] = _budgeted_test(function)
    return made


class _Undefined(StrictUndefined):
    """Fails at every use with a message about which name is missing where."""

    __slots__ = ()

    def __init__(
        self, hint: Any = None, obj: Any = missing, name: Any = None, exc: Any = UndefinedError
    ) -> None:
        error: Any = functools.partial(UnknownNameError, name=name, within=None if obj is missing else obj)
        is_name = hint is None and isinstance(name, str) and (obj is missing or isinstance(obj, Mapping))
        super().__init__(hint, obj, name, error if is_name else exc)

    def __repr__(self) -> str:
        """Fail: within a list that becomes text, it would be the word `Undefined`."""
        return str(self)


_COUNTED, _JOINED, _WEIGHED, _OF_VARIABLE = "_counted", "_joined", "_weighed", "_of_variable"


class _Counting(NodeTransformer):
    """Rewrites loops, so that iterations count, and `~`, so that its text is limited."""

    def visit_For(self, node: nodes.For, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802 - named by the visitor
        """Count each iteration, with the text that it writes."""
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        size = nodes.Const(text, lineno=node.lineno)
        node.iter = nodes.Filter(node.iter, _COUNTED, [size], [], None, None, lineno=node.lineno)
        return self.generic_visit(node, *args, **kwargs)

    def visit_Concat(self, node: nodes.Concat, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802 - the same
        """Check the length before the parts are joined."""
        parts = nodes.List(node.nodes, lineno=node.lineno)
        self.generic_visit(parts, *args, **kwargs)
        return nodes.Filter(parts, _JOINED, [], [], None, None, lineno=node.lineno)

    def visit_Getattr(self, node: nodes.Getattr, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802 - the same
        """Let `.domain` and `.value` of a variable be those of its definition."""
        name = variable_named(node.node) if node.attr in OF_VARIABLES else None
        if name is None:
            return self.generic_visit(node, *args, **kwargs)
        line = node.lineno
        domains = nodes.Name(DOMAINS, "load", lineno=line)
        given: list[nodes.Expr] = [nodes.Const(name), nodes.Const(node.attr), domains]
        return nodes.Filter(node.node, _OF_VARIABLE, given, [], None, None, lineno=line)

    def visit_Getitem(self, node: nodes.Getitem, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802 - the same
        """Let a slice cost what it may copy."""
        if isinstance(node.arg, nodes.Slice):
            node.node = nodes.Filter(node.node, _WEIGHED, [], [], None, None, lineno=node.lineno)
        return self.generic_visit(node, *args, **kwargs)

    def visit_Operand(self, node: nodes.Operand, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802 - the same
        """Let a comparison cost what it may have to search."""
        node.expr = nodes.Filter(node.expr, _WEIGHED, [], [], None, None, lineno=node.lineno)
        return self.generic_visit(node, *args, **kwargs)


class _KeysFirst(SandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a mapping's key before its method; then follow the sandbox's rules."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Calculate unless the result would be too large to be meant."""
        _check_operator(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method within the budget."""
        method = getattr(obj, "__wrapped__", obj)  # the sandbox wraps `str.format`
        owner = getattr(method, "__self__", None)
        _check_call(getattr(obj, "__name__", ""), owner, [*args, *kwargs.values()])
        return super().call(context, obj, *args, **kwargs)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Counting().visit(source), *args, **kwargs)


def _check_operator(operator: str, left: Any, right: Any) -> None:
    spend(1 + (size_of(left) + size_of(right)) // 20)
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
        if operator in ("*", "**") and bits > MAX_BITS:
            raise BudgetError(f"the result of {operator} would be too large")
    elif operator == "%" and isinstance(left, str):
        _check_format(left, right if isinstance(right, tuple) else [right])
        _check_texts(right if isinstance(right, tuple) else [right])
    elif operator == "+":
        check_length(size_of(left) + size_of(right))
    elif operator == "*":
        for text, times in ((left, right), (right, left)):
            if isinstance(text, str | list | tuple) and isinstance(times, int):
                check_length(len(text) * times, f"the result of {operator} would be too large")


def _check_call(name: str, owner: Any, arguments: Sequence[Any]) -> None:
    """Check a call of the method or filter `name` on `owner` before it is made. Raises: BudgetError."""
    size = size_of(owner)
    spend(CALL_STEPS + size // 1000 + sum(map(size_of, arguments)) // 1000)
    if isinstance(owner, list | tuple | dict):
        spend_reading(owner)
    if name in ("format", "format_map"):
        if isinstance(owner, str):
            _check_format(owner, arguments)
            _check_texts(arguments)
        return
    if isinstance(owner, str | list | tuple | dict):
        for argument in arguments:
            if isinstance(argument, int) and abs(argument) > MAX_NUMBER and name not in _ANY_NUMBER:
                raise BudgetError(f"{argument} is too large for {name}")
    if isinstance(owner, str) and name in ("replace", "translate", "expandtabs"):
        longest = max((size_of(one) for one in arguments), default=1)
        check_length((size + 1) * max(1, longest))
    elif isinstance(owner, str) and name == "join":
        check_length(sum(_joined_size(one, size) for one in arguments))
    elif isinstance(owner, list) and name in ("extend", "insert", "append"):
        check_length(size + sum(map(size_of, arguments)))


_MAKE_TEXT = frozenset(
    (
        *(
            "string",
            "join",
            "tojson",
            "pprint",
            "urlencode",
            "xmlattr",
            "escape",
            "e",
            "forceescape",
            "indent",
        ),
        *("wordwrap", "upper", "lower", "title", "capitalize", "trim", "center", "truncate", "replace"),
        *("striptags", "urlize"),
    )
)
"""Filters that make a text of what they are given, whatever it is: an object would become its description."""


_SLOW = frozenset(("wordwrap", "urlize", "striptags", "title"))
"""Filters that take microseconds for each character."""


def _check_sum(value: Any, arguments: Iterable[Any]) -> None:
    """Refuse to add lists one to the other beyond measure: each addition copies all that was there."""
    if isinstance(value, Sized) and any(isinstance(argument, list | tuple) for argument in arguments):
        spend(weight(value) * size_of(value) // 100)


def _check_texts(arguments: Iterable[Any]) -> None:
    """Refuse members of a format that have no value, or are too large to be written. Raises: as `plain_result`."""
    for argument in arguments:
        if not isinstance(argument, str | int | float):
            plain_result(argument)


_ANY_NUMBER = frozenset(
    ("append", "insert", "index", "count", "get", "setdefault", "default", "d", "update", "pop")
)
"""Methods and filters whose numbers are values, not widths."""


def _check_format(text: str, arguments: Iterable[Any]) -> None:
    """Refuse widths and precisions that make long texts, whether written or passed."""
    if _WIDE.search(text):
        raise BudgetError("a width in a format is too large")
    is_nested = "*" in text or re.search(r"\{[^{}]*\{", text) is not None
    for argument in arguments:
        check_length(size_of(argument))
        if is_nested and isinstance(argument, int) and abs(argument) > MAX_NUMBER:
            raise BudgetError("a width in a format is too large")
    check_length(len(text) * max(1, text.count("{") + text.count("%")))


def _budgeted_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that checks its arguments, and whose results are counted as they are used."""
    position = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def budgeted(*args: Any, **kwargs: Any) -> Any:
        value = args[position] if len(args) > position else None
        arguments = [*args[position + 1 :], *kwargs.values()]
        if isinstance(value, str):
            spend(1 + len(value) // (1 if name in _SLOW else 1000))
        elif isinstance(value, Sized) and not isinstance(value, StrictUndefined):
            spend(len(value))
            spend_reading(value)
        if name == "sum":
            _check_sum(value, arguments)
        if name in _MAKE_TEXT and not isinstance(value, str | StrictUndefined):
            value = plain_result(value)
            args = (*args[:position], value, *args[position + 1 :])
        if name == "join":
            value = value if isinstance(value, Sized) else list(_counted(value or ()))
            args = (*args[:position], value, *args[position + 1 :])
            separator = size_of(arguments[0]) if arguments else 0
            check_length(_joined_size(value, separator))
        else:
            _check_call(name, value, arguments)
            _check_numbers(name, arguments)
        if name in _MAKE_TEXT:
            _check_texts(arguments)
        result = function(*args, **kwargs)
        return _counted(result) if isinstance(result, Iterator) else result

    return budgeted


def _check_numbers(name: str, arguments: Iterable[Any]) -> None:
    if name in _ANY_NUMBER or name == "format":
        return
    for argument in arguments:
        if isinstance(argument, int) and abs(argument) > MAX_NUMBER:
            raise BudgetError(f"{argument} is too large for {name}")


def _counted(values: Iterable[Any], text: int = 0) -> Iterator[Any]:
    """Yield values, each of which costs a step, and the `text` characters that its loop writes."""
    for value in values:
        spend(1)
        if text and (budget := budget_of_this.get()) is not None:
            budget.write(text)
        yield value


def _weighed(value: Any) -> Any:
    """Return the operand of a comparison or slice, which may read all of it."""
    spend_reading(value)
    return value


def _budgeted_test(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def budgeted(*args: Any, **kwargs: Any) -> Any:
        for argument in args:
            spend_reading(argument)
        return function(*args, **kwargs)

    return budgeted


def _joined(parts: Sequence[Any]) -> str:
    """Join the operands of `~`."""
    texts = [value if isinstance(value, str) else str(plain_result(value)) for value in parts]
    check_length(sum(map(len, texts)))
    return "".join(texts)


def _written(value: Any) -> Any:
    """Check a value that a template writes."""
    result = plain_result(value)
    if (budget := budget_of_this.get()) is not None:
        budget.write(len(result) if isinstance(result, str) else 1 + 10 * size_of(result) + text_size(result))
    return result


def _joined_size(values: Any, separator: int) -> int:
    if not isinstance(values, Iterable) or isinstance(values, Iterator):
        return 0
    return sum(size_of(value) + separator + 1 for value in values)
