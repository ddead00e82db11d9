"""The template engine in its sandbox: Jinja2 with mapping keys first, without private names, within a budget.

Imported late. An expression must not stop the controller or fill its memory. So every loop iteration, call,
filter and operator counts against the budget of one evaluation (`budget`), sizes are checked before a value is made
(`call_checks`), and all that has been made counts. Only `templates` uses this module.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

from jinja2 import StrictUndefined, nodes, pass_environment
from jinja2.exceptions import TemplateSyntaxError, UndefinedError
from jinja2.lexer import Token, TokenStream
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

from sflow_ctl.format.expressions.budget import (
    MAX_WORDS,
    budget_of_this,
    check_length,
    made,
    size_of,
    spend,
    spend_reading,
    text_size,
)
from sflow_ctl.format.expressions.call_checks import (
    check_call,
    check_indented,
    check_numbers,
    check_operator,
    check_sum,
    check_texts,
    joined_size,
)
from sflow_ctl.format.expressions.plain_data import counted, plain_result
from sflow_ctl.format.expressions.variable_fields import DOMAINS, OF_VARIABLES, of_variable, variable_named

EXPRESSION_START = "${{"
_REMOVED = ("lipsum", "cycler", "joiner")
"""Globals of Jinja2 that no workflow needs."""


class UnknownNameError(UndefinedError):
    """A missing name: the name, and the mapping in which it was looked up, if any."""

    def __init__(self, message: str, name: Any, within: Any) -> None:
        super().__init__(message)
        self.name, self.within = name, within


@functools.lru_cache(maxsize=1)
def environment() -> SandboxedEnvironment:
    """Return the one environment of this process."""
    one = _KeysFirst(
        variable_start_string=EXPRESSION_START,
        variable_end_string="}}",
        undefined=_Undefined,
        keep_trailing_newline=True,
        autoescape=False,
        finalize=_written,
    )
    for name in _REMOVED:
        one.globals.pop(name, None)
    for name, function in list(one.filters.items()):
        one.filters[name] = _budgeted_filter(name, function)
    one.filters[_COUNTED] = counted
    one.filters[_OF_VARIABLE] = pass_environment(of_variable)
    one.filters[_JOINED] = _joined
    one.filters[_WEIGHED] = _weighed
    tests: dict[str, Any] = one.tests
    for name, function in list(tests.items()):
        tests[name] = _budgeted_test(function)
    return one


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
        check_operator(operator, left, right)
        return made(super().call_binop(context, operator, left, right))

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method within the budget."""
        method = getattr(obj, "__wrapped__", obj)  # the sandbox wraps `str.format`
        owner = getattr(method, "__self__", None)
        check_call(getattr(obj, "__name__", ""), owner, [*args, *kwargs.values()])
        return made(super().call(context, obj, *args, **kwargs))

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        return TokenStream(_limited(super()._tokenize(source, name, filename, state)), name, filename)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Counting().visit(source), *args, **kwargs)


def _limited(tokens: Iterable[Token]) -> Iterator[Token]:
    """Yield the words of a template. Raises: TemplateSyntaxError when there are too many to be compiled at once."""
    for number, token in enumerate(tokens):
        if number > MAX_WORDS:
            raise TemplateSyntaxError(
                f"it has more than {MAX_WORDS} words and signs in expressions and statements", token.lineno
            )
        yield token


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
_BY_MEMBER = frozenset(("groupby", "sort", "unique", "min", "max", "sum", "dictsort", "items"))
"""Filters that take a text's characters one by one, as members."""


def _budgeted_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that checks its arguments, and whose results are counted as they are used."""
    position = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def budgeted(*args: Any, **kwargs: Any) -> Any:
        value = args[position] if len(args) > position else None
        arguments = [*args[position + 1 :], *kwargs.values()]
        if isinstance(value, str):
            spend(1 + len(value) // (1 if name in _SLOW or name in _BY_MEMBER else 1000))
        elif isinstance(value, Sized) and not isinstance(value, StrictUndefined):
            spend(len(value))
            spend_reading(value)
        if name == "sum":
            check_sum(value, arguments)
        if name in _MAKE_TEXT and not isinstance(value, str | StrictUndefined):
            value = plain_result(value)
            args = (*args[:position], value, *args[position + 1 :])
        if name == "join":
            value = value if isinstance(value, Sized) else list(counted(value or ()))
            args = (*args[:position], value, *args[position + 1 :])
            separator = size_of(arguments[0]) if arguments else 0
            check_length(joined_size(value, separator))
        else:
            check_call(name, value, arguments)
            check_numbers(name, arguments)
        if name in _MAKE_TEXT:
            check_texts(arguments)
        if name == "tojson":
            check_indented(value, arguments)
        result = function(*args, **kwargs)
        return counted(result) if isinstance(result, Iterator) else made(result)

    return budgeted


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
