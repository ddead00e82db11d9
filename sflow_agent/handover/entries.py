"""Values that are not there, and those of an attempt for several items: lists with one entry for each. Pure."""

from typing import Any

from protocol.messages.handover import FoundOutput, OutputRule
from protocol.text.listing import listed
from protocol.typed_values import WrongTypeError, described, typed
from sflow_agent.handover.problems import HandoverError

_SHOWN = 3


class EntriesError(HandoverError):
    """Some entries of a list cannot be used; the record has the others."""

    def __init__(self, text: str, record: FoundOutput) -> None:
        super().__init__(text, "give null for items that have no value, and the output a `default`")
        self.record = record


def entries_of(
    rule: OutputRule, value: Any, items: tuple[int, ...], *, has_failed: bool
) -> tuple[list[Any], tuple[int, ...], str]:
    """Return the entries as they count, which of them stand for no value, and what is wrong with some of those.

    `items` are the positions of the items, for messages. Where the attempt has failed, what is not there is no problem of its
    own. Raises: HandoverError for what is not one entry for each item.
    """
    if not isinstance(value, list) or len(value) != len(items):
        count = len(value) if isinstance(value, list) else None
        got = described(value) if count is None else f"one with {count}"
        raise HandoverError(
            f"its output {rule.name}: wanted a list with {len(items)} entries, one for each item of its chunk, got {got}",
            "write one entry for each, null for an item that has no value",
        )
    wanted = rule.type or ("float" if rule.kind == "metric" else None)
    done: list[Any] = []
    lacking: list[int] = []
    problems: list[str] = []
    for index, one in enumerate(value):
        if one is None and rule.has_default and not has_failed:
            done.append(rule.default)
            continue
        is_null = one is None and (has_failed or not rule.is_required)
        try:
            done.append(None if is_null else typed(one, wanted))
        except WrongTypeError as error:
            problems.append(f"for item {items[index]} {error}")
            done.append(None)
            is_null = True
        if is_null:
            lacking.append(index)
    if not problems or has_failed:
        return done, tuple(lacking), ""
    return done, tuple(lacking), f"its output {rule.name}: {listed(problems, _SHOWN)}"


def absent(rule: OutputRule, why: str, items: tuple[int, ...] | None) -> FoundOutput:
    """Return the record of an output that need not be there, and is not: its default, if it has one, for each item."""
    default = rule.default if items is None else [rule.default] * len(items)
    return FoundOutput(
        name=rule.name,
        kind=rule.kind,
        value=default if rule.has_default else None,
        why=why,
        is_missing=True,
        is_default=rule.has_default,
    )
