"""A small language over a JSON document: `len(instances) >= 6 and status == "ok"`.

The planner refuses invalid expressions, the agent evaluates valid ones. It is Python's grammar with a short
list of allowed parts, evaluated here node by node: nothing is ever compiled or looked up on an object, and a
budget limits the work for any document. Names are the document's top-level keys, and `body` is all of it.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast  # at run time only when there is an expression: an agent must start fast

MAX_SOURCE_CHARACTERS = 1000
MAX_NODES = 300
MAX_STEPS = 30_000
"""About 20 ms."""
MAX_INTEGER = 1 << 63
SHOWN_CHARACTERS = 80
_DEEP_COMPARISON_STEPS = 3_000
"""Two containers may be as large as the document."""
_CONSTANTS = {"true": True, "false": False, "null": None}


class JsonExpressionError(ValueError):
    """An invalid expression, or one without a value for this document. The text is for a person."""


class JsonExpression:
    """One checked expression."""

    def __init__(self, source: str) -> None:
        """Parse and check an expression. Raises: JsonExpressionError."""
        self.source = " ".join(source.split())
        self._root = _parse(self.source)

    def holds(self, document: Any) -> tuple[bool, str]:
        """Return whether it is true of a document, and what is missing if not: "len(instances) is 5"."""
        evaluation = _Evaluation(document)
        try:
            if evaluation.value(self._root):
                return True, ""
            return False, self._explain(self._root, _Evaluation(document))
        except JsonExpressionError as error:
            return False, str(error)

    def _explain(self, node: "ast.expr", evaluation: "_Evaluation") -> str:
        """Return the part that is false, with the value that makes it so."""
        fields: Any = node
        match type(node).__name__:
            case "BoolOp" if type(fields.op).__name__ == "And":
                wrong = next(part for part in fields.values if not evaluation.value(part))
                return self._explain(wrong, evaluation)
            case "Compare" if type(fields.left).__name__ != "Constant":
                return f"{self._text(fields.left)} is {_shown(evaluation.value(fields.left))}"
            case _:
                return f"{self._text(node)} is {_shown(evaluation.value(node))}"

    def _text(self, node: "ast.expr") -> str:
        return self.source.encode()[node.col_offset : node.end_col_offset].decode(errors="replace")


@lru_cache(maxsize=256)
def json_expression(source: str) -> JsonExpression:
    """Return the expression, parsed once. Raises: JsonExpressionError."""
    return JsonExpression(source)


def _shown(value: Any) -> str:
    # The text is limited: a list may be the whole document.
    if isinstance(value, list | dict):
        kind = "list" if isinstance(value, list) else "mapping"
        return f"a {kind} of {len(value)}" if value else f"an empty {kind}"
    text = repr(value[: SHOWN_CHARACTERS * 2] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


# ---------------------------------------------------------------------- valid expressions


def _parse(source: str) -> "ast.expr":
    import ast

    if len(source) > MAX_SOURCE_CHARACTERS:
        raise JsonExpressionError(f"is longer than {MAX_SOURCE_CHARACTERS} characters")
    try:
        root = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise JsonExpressionError(f"is not an expression: {error.msg}") from error
    except (ValueError, MemoryError, RecursionError) as error:
        raise JsonExpressionError("is not an expression") from error
    for count, node in enumerate(ast.walk(root)):
        if count >= MAX_NODES:
            raise JsonExpressionError("is too long")
        _check(node)
    return root


def _check(node: "ast.AST") -> None:
    fields: Any = node
    kind = type(node).__name__
    if kind not in _ALLOWED:
        raise JsonExpressionError(f"uses {_WORDS.get(kind, kind)}, which is not allowed here")
    match kind:
        case "Name" if fields.id.startswith("_"):
            raise JsonExpressionError(f'uses "{fields.id}": names do not begin with _')
        case "Attribute" if fields.attr.startswith("_"):
            raise JsonExpressionError(f'uses ".{fields.attr}": keys after a dot do not begin with _')
        case "Call":
            if type(fields.func).__name__ != "Name" or fields.func.id not in _FUNCTIONS:
                raise JsonExpressionError(f"calls something other than {', '.join(_FUNCTIONS)}")
            if len(fields.args) != 1 or fields.keywords:
                raise JsonExpressionError(f"{fields.func.id}() takes one argument here")
        case "Constant" if not isinstance(fields.value, str | int | float | None):
            raise JsonExpressionError(f"uses {fields.value!r}: only numbers, text and None")
        case "comprehension" if type(fields.target).__name__ != "Name" or fields.is_async:
            raise JsonExpressionError("only `for NAME in` is allowed here")
        case _:
            pass


# ---------------------------------------------------------------------- evaluation


class _Evaluation:
    """One evaluation over one document."""

    def __init__(self, document: Any) -> None:
        self._names: dict[str, Any] = dict(document) if isinstance(document, dict) else {}
        self._names["body"] = document
        self._steps = 0

    def value(self, node: "ast.expr") -> Any:
        """Return the value of a node. Raises: JsonExpressionError."""
        self.charge(1)
        return _RULES[type(node).__name__](self, node)

    def charge(self, steps: int) -> None:
        """Count work. Raises: JsonExpressionError when it is too much."""
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise JsonExpressionError("is too much work for this document")

    # ------------------------------------------------------------------ one method for each kind of node

    def _constant(self, node: Any) -> Any:
        return node.value

    def _name(self, node: Any) -> Any:
        if node.id in self._names:
            return self._names[node.id]
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        raise JsonExpressionError(f'there is no "{node.id}"')

    def _attribute(self, node: Any) -> Any:
        return self._item(self.value(node.value), node.attr)

    def _subscript(self, node: Any) -> Any:
        return self._item(self.value(node.value), self.value(node.slice))

    @staticmethod
    def _item(holder: Any, key: Any) -> Any:
        if isinstance(holder, dict) and isinstance(key, str):
            if key in holder:
                return holder[key]
            raise JsonExpressionError(f'there is no "{key[:SHOWN_CHARACTERS]}"')
        if isinstance(holder, list) and isinstance(key, int) and not isinstance(key, bool):
            if -len(holder) <= key < len(holder):
                return holder[key]
            raise JsonExpressionError(f"there is no [{_shown(key)}] in a list of {len(holder)}")
        raise JsonExpressionError(f"{_shown(holder)} has no [{_shown(key)}]")

    def _list(self, node: Any) -> list[Any]:
        return [self.value(item) for item in node.elts]

    def _bool_op(self, node: Any) -> Any:
        is_and = type(node.op).__name__ == "And"
        result: Any = is_and
        for part in node.values:
            result = self.value(part)
            if bool(result) is not is_and:
                break
        return result

    def _unary_op(self, node: Any) -> Any:
        operand = self.value(node.operand)
        match type(node.op).__name__:
            case "Not":
                return not operand
            case "USub":
                return -_number(operand)
            case _:
                return _number(operand)

    def _bin_op(self, node: Any) -> Any:
        left, right = _number(self.value(node.left)), _number(self.value(node.right))
        try:
            return _OPERATORS[type(node.op).__name__](left, right)
        except ArithmeticError as error:
            raise JsonExpressionError(f"{_shown(left)} and {_shown(right)}: {error}") from error

    def _compare(self, node: Any) -> bool:
        left = self.value(node.left)
        for operator, operand in zip(node.ops, node.comparators, strict=True):
            right = self.value(operand)
            if not self._holds(type(operator).__name__, left, right):
                return False
            left = right
        return True

    def _holds(self, operator: str, left: Any, right: Any) -> bool:
        match operator:
            case "Eq" | "NotEq" | "Is" | "IsNot":
                self.charge(_comparison_steps(left, right))
                return (left == right) is (operator in ("Eq", "Is"))
            case "In" | "NotIn":
                return self._contains(left, right) is (operator == "In")
            case _:
                if not (isinstance(left, str) and isinstance(right, str)):
                    left, right = _number(left), _number(right)
                self.charge(_comparison_steps(left, right))
                return bool(_ORDERS[operator](left, right))

    def _contains(self, item: Any, holder: Any) -> bool:
        if isinstance(item, list | dict):
            raise JsonExpressionError(f"{_shown(item)} cannot be looked for")
        if isinstance(holder, str) and isinstance(item, str):
            self.charge(len(holder) // 100)
        elif isinstance(holder, list):
            self.charge(len(holder) * _comparison_steps(item, ""))
        elif not isinstance(holder, dict):
            raise JsonExpressionError(f"{_shown(item)} cannot be looked for in {_shown(holder)}")
        return item in holder

    def _if_exp(self, node: Any) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _call(self, node: Any) -> Any:
        argument = self.value(node.args[0])
        return _FUNCTIONS[node.func.id](self, argument)

    def _comprehension(self, node: Any) -> list[Any]:
        found: list[Any] = []
        self._loop(node.generators, node.elt, found)
        return found

    def _loop(self, generators: list[Any], element: Any, found: list[Any]) -> None:
        if not generators:
            found.append(self.value(element))
            return
        first, *rest = generators
        name, outer = first.target.id, self._names
        self.charge(len(outer) // 10)
        for item in self.items(self.value(first.iter)):
            self.charge(1)
            self._names = outer | {name: item} if self._names is outer else self._names
            self._names[name] = item
            if all(self.value(condition) for condition in first.ifs):
                self._loop(rest, element, found)
        self._names = outer

    @staticmethod
    def items(holder: Any) -> Iterable[Any]:
        """Return what a loop iterates over: items of a list, keys of a mapping. Raises: JsonExpressionError."""
        if isinstance(holder, list | dict):
            return holder
        raise JsonExpressionError(f"{_shown(holder)} is not a list")

    # ------------------------------------------------------------------ functions

    def _len(self, argument: Any) -> int:
        if isinstance(argument, list | dict | str):
            return len(argument)
        raise JsonExpressionError(f"{_shown(argument)} has no length")

    def _any(self, argument: Any) -> bool:
        return any(self._list_of(argument))

    def _all(self, argument: Any) -> bool:
        return all(self._list_of(argument))

    def _sum(self, argument: Any) -> int | float:
        return sum(self._numbers(argument))

    def _min(self, argument: Any) -> int | float:
        return min(self._numbers(argument, least=1))

    def _max(self, argument: Any) -> int | float:
        return max(self._numbers(argument, least=1))

    def _list_of(self, argument: Any) -> list[Any]:
        items = list(self.items(argument))
        self.charge(len(items))
        return items

    def _numbers(self, argument: Any, least: int = 0) -> list[int | float]:
        numbers = [_number(item) for item in self._list_of(argument)]
        if len(numbers) < least:
            raise JsonExpressionError("an empty list has no minimum and no maximum")
        return numbers


def _number(value: Any) -> int | float:
    """Return a number within limits; true and false are 1 and 0, so that they can be counted."""
    if not isinstance(value, int | float):
        raise JsonExpressionError(f"{_shown(value)} is not a number")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise JsonExpressionError("a number is too large")
    return value


def _comparison_steps(left: Any, right: Any) -> int:
    if isinstance(left, list | dict) and isinstance(right, list | dict):
        return _DEEP_COMPARISON_STEPS
    if isinstance(left, str) and isinstance(right, str):
        return 1 + min(len(left), len(right)) // 1000
    return 1


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda left, right: left + right,
    "Sub": lambda left, right: left - right,
    "Mult": lambda left, right: left * right,
    "Div": lambda left, right: left / right,
    "FloorDiv": lambda left, right: left // right,
    "Mod": lambda left, right: left % right,
}
_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "Lt": lambda left, right: left < right,
    "LtE": lambda left, right: left <= right,
    "Gt": lambda left, right: left > right,
    "GtE": lambda left, right: left >= right,
}
_FUNCTIONS: dict[str, Callable[[_Evaluation, Any], Any]] = {
    "len": _Evaluation._len,
    "any": _Evaluation._any,
    "all": _Evaluation._all,
    "sum": _Evaluation._sum,
    "min": _Evaluation._min,
    "max": _Evaluation._max,
}
_RULES: dict[str, Callable[[_Evaluation, Any], Any]] = {
    "Constant": _Evaluation._constant,
    "Name": _Evaluation._name,
    "Attribute": _Evaluation._attribute,
    "Subscript": _Evaluation._subscript,
    "List": _Evaluation._list,
    "Tuple": _Evaluation._list,
    "BoolOp": _Evaluation._bool_op,
    "UnaryOp": _Evaluation._unary_op,
    "BinOp": _Evaluation._bin_op,
    "Compare": _Evaluation._compare,
    "IfExp": _Evaluation._if_exp,
    "Call": _Evaluation._call,
    "ListComp": _Evaluation._comprehension,
    "GeneratorExp": _Evaluation._comprehension,
}
_ALLOWED = frozenset(_RULES) | frozenset(_OPERATORS) | frozenset(_ORDERS) | {
    "Load", "Store", "comprehension", "And", "Or", "Not", "USub", "UAdd", "Eq", "NotEq", "Is", "IsNot", "In", "NotIn",
}  # fmt: skip
_WORDS = {
    "Pow": "a power",
    "LShift": "a shift",
    "Lambda": "a function",
    "JoinedStr": "a formatted text",
    "Slice": "a slice",
    "Dict": "a mapping",
    "DictComp": "a mapping",
    "Set": "a set",
    "SetComp": "a set",
    "NamedExpr": "an assignment",
    "Starred": "a star",
}
