"""What one evaluation of an expression or template may take: steps, and characters of its text. Pure.

`engine` counts here whatever it lets an expression do. Counting makes the limit the same on every machine.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from contextvars import ContextVar
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError

MAX_STEPS = 300_000
"""Loop iterations, calls and members of lists in one evaluation: less than a second, far above any use."""
MAX_WORDS = 20_000
"""Words and signs of the expressions and statements of one template, which are compiled in about a second."""
CALL_STEPS = 10
"""Steps of a call, which takes about ten times as long as an iteration."""
MAX_LENGTH = 10_000_000
"""Characters of a text, members of a list, and characters of output that one evaluation may make."""
MAX_NUMBER = 1_000_000
"""Largest width, count or indentation that may be passed to a method or filter."""
MAX_BITS = 100_000
"""Bits of an integer while it is calculated with."""
MAX_DIGITS = 4300
"""Digits of an integer that is a result: Python writes no more. Source: sys.set_int_max_str_digits."""
MAX_SHOWN_BITS = 14_280
"""Bits of an integer of no more than so many digits."""
MAX_MADE = 5 * MAX_LENGTH
"""Characters and members of all texts and lists that one evaluation may make on its way, together."""


class BudgetError(SecurityError):
    """An evaluation that would take too long, or make something too large."""


class Budget:
    """What one evaluation has taken so far."""

    __slots__ = ("made", "output", "steps")

    def __init__(self) -> None:
        self.steps = 0
        self.output = 0
        self.made = 0

    def spend(self, steps: int) -> None:
        """Count steps. Raises: BudgetError."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise BudgetError(f"it takes more than {MAX_STEPS} steps")

    def write(self, characters: int) -> None:
        """Count characters of output. Raises: BudgetError."""
        self.output += characters
        if self.output > MAX_LENGTH:
            raise BudgetError(f"its text would have more than {MAX_LENGTH} characters")

    def make(self, characters: int) -> None:
        """Count characters or members of a value on the way to the result. Raises: BudgetError."""
        self.made += characters
        if self.made > MAX_MADE:
            raise BudgetError(
                f"its texts and lists would have more than {MAX_MADE} characters and members together"
            )


budget_of_this: ContextVar[Budget | None] = ContextVar("budget", default=None)


def within_budget(evaluate: Callable[[], Any]) -> Any:
    """Call a function that evaluates one expression or template, with a budget of its own. Raises: BudgetError."""
    token = budget_of_this.set(Budget())
    try:
        return evaluate()
    finally:
        budget_of_this.reset(token)


def text_size(value: Any) -> int:
    """Return about how many characters plain data has as text."""
    if isinstance(value, dict):
        return sum(text_size(key) + text_size(member) for key, member in value.items())
    if isinstance(value, list | tuple):
        return sum(map(text_size, value))
    return len(value) if isinstance(value, str) else 1


def size_of(value: Any) -> int:
    """Return the characters or members of a value; 1 for one that has neither."""
    return len(value) if isinstance(value, Sized) and not isinstance(value, StrictUndefined) else 1


def weight(value: Any) -> int:
    """Return the members of a container and the characters or members of each: what comparing or sorting it may read."""
    if isinstance(value, Mapping):
        return sum(size_of(key) + size_of(member) for key, member in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | range):
        return sum(map(size_of, value))
    return size_of(value)


def spend_reading(value: Any) -> None:
    """Count what it takes to read all of a value, as comparing, searching and sorting do. Raises: BudgetError.

    A member that is in it many times counts as often: comparing reads it as often.
    """
    if isinstance(value, Sized) and not isinstance(value, str | bytes | range | StrictUndefined):
        spend(1 + len(value) // 3)  # finding out is a loop of its own
        spend(weight(value) // 100)
        if isinstance(value, list | tuple | dict):
            for member in value.values() if isinstance(value, dict) else value:
                if isinstance(member, list | tuple | dict):
                    spend(len(member))
                    spend_reading(member)
    else:
        spend(1 + size_of(value) // 100)


def made(value: Any) -> Any:
    """Return a value, whose characters or members count as made. Raises: BudgetError."""
    if isinstance(value, str | bytes | list | tuple) and (budget := budget_of_this.get()) is not None:
        budget.make(len(value))
    return value


def check_length(length: int, what: str | None = None) -> None:
    """Raises: BudgetError for a value of more than `MAX_LENGTH` characters or members."""
    if length > MAX_LENGTH:
        raise BudgetError(what or f"its value would have more than {MAX_LENGTH} characters or members")


def spend(steps: int) -> None:
    """Count steps of the current evaluation. Raises: BudgetError."""
    budget = budget_of_this.get()
    if budget is not None:
        budget.spend(steps)
