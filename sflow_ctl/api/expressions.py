"""References of programs to what is known only while a run continues: they become expressions in texts, and inputs of tasks."""

import re
from typing import Any

from protocol.errors import SpecError

RESULT = "result"
"""Name of the output of a function that returns one value."""


class Expression:
    """What an expression of a file is, without its braces. In a text it has them."""

    def __init__(self, text: str) -> None:
        self.expression = text
        """The expression, for use in others."""

    def __str__(self) -> str:
        """Return it with its braces, for scripts and other fields."""
        return f"${{{{ {self.expression} }}}}"

    def __repr__(self) -> str:
        """Return the class and the expression."""
        return f"{type(self).__name__}({self.expression!r})"


class TaskOutput(Expression):
    """An output of a task. As an input of another task it is handed over; in a text it is the expression for it."""

    def __init__(self, task: str, name: str, *, is_same_item: bool = False) -> None:
        """`is_same_item`: of a task that is run for each item, the value for the item that another such task is run for."""
        is_plain = re.fullmatch(r"[A-Za-z_]\w*", task, re.ASCII)
        super().__init__(f"task.{task}.outputs.{name}" if is_plain else f"task['{task}'].outputs.{name}")
        self.task, self.name, self.is_same_item = task, name, is_same_item

    @property
    def source(self) -> str:
        """What the field `from` of an input has."""
        return f"{self.task}.outputs.{self.name}"

    def as_input(self) -> dict[str, Any]:
        """Return it as the input of a task, as in a file."""
        return {"from": self.source, **({"items": "same"} if self.is_same_item else {})}

    def __str__(self) -> str:
        """Return it with its braces. Raises: SpecError for that of the same item, which only inputs can have."""
        if self.is_same_item:
            what = f"the value of {self.source} for the same item is used in a text"
            raise SpecError.of("not-a-value", what, hint="give it to the task as an argument or input")
        return super().__str__()

    def __repr__(self) -> str:
        """Return the task and the name."""
        return f"TaskOutput({self.task!r}, {self.name!r})"


class _Last:
    """The iteration of a block that has ended, in `until` and `carry` of a loop."""

    @staticmethod
    def output(name: str) -> Expression:
        """Return an output of the block."""
        return Expression(f"last.outputs.{name}")

    @staticmethod
    def input(name: str) -> Expression:
        """Return an input that the iteration was given."""
        return Expression(f"last.inputs.{name}")


last = _Last()


def expression(text: str, **values: Expression) -> Expression:
    """Return an expression in which names stand for outputs and inputs: `expression("score > 0.9", score=check.output())`.

    Args:
        text: An expression of the format, without braces.
        **values: What names in it stand for. Texts in quotes are left alone.

    Raises: SpecError for a name that is not in the text.
    """
    found: set[str] = set()

    def replaced(match: "re.Match[str]") -> str:
        name = match["name"]
        if name is None or name not in values:
            return match[0]
        found.add(name)
        return values[name].expression

    done = re.sub(r"'[^']*'|\"[^\"]*\"|(?<![\w.])(?P<name>[A-Za-z_]\w*)", replaced, text)
    missing = [name for name in values if name not in found]
    if missing:
        raise SpecError.of("wrong-argument", f"the expression {text} does not use {missing[0]}")
    return Expression(done)
