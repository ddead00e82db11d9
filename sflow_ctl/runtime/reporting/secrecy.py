"""Masks a report before anything is made of it: declared secrets, and what looks like one. A report is sent to other people.

The whole report is masked as data, so that neither JSON nor HTML can change a value so that it is not found.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from msgspec import Struct

from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.masking import Mask, parts_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.files.likely_secrets import is_name_of_secret, masked_by_form

T = TypeVar("T")
MIN_GUESSED = 8
"""Characters of a value that is taken for a secret because of its name: a shorter one, as 4096 of `max_token`, is found in
much that is not."""
_NUMBER = lazy_pattern(r"[\d.eE+-]+$")


def mask_of(plan: Plan) -> Mask:
    """Return the mask of a run: its declared secrets, and the values of variables whose names say that they are secret."""
    values = dict(SECRETS.values())  # name and value may come several times
    found = [*SECRETS.values()]
    tables: list[Mapping[str, object]] = [
        plan.variables,
        *{id(task.env): task.env for task in plan.tasks}.values(),
    ]
    for name, value in (one for table in tables for one in table.items()):
        if is_name_of_secret(name) and name not in values:
            found += [(name, part) for part in set(parts_of(value)) if _may_be_secret(part)]
    return Mask(found)


def _may_be_secret(text: str) -> bool:
    return len(text) >= MIN_GUESSED and _NUMBER.match(text) is None


def masked(value: T, mask: Mask) -> T:
    """Return a report, or a part of it, with marks in place of secrets."""
    shown: T = _masked(value, mask) if mask else value
    return shown


def _masked(value: Any, mask: Mask) -> Any:
    if isinstance(value, Enum):  # a word of ours, and a str
        return value
    if isinstance(value, str):
        return mask.text(value)
    if isinstance(value, Struct):
        names = value.__struct_fields__
        return type(value)(**{name: _masked(getattr(value, name), mask) for name in names})
    if isinstance(value, tuple):
        return tuple(_masked(one, mask) for one in value)
    return mask.data(value)


def without_forms(text: str) -> str:
    """Return a text without what has the form of a secret: tokens, passwords in URLs, values after such a name."""
    return masked_by_form(text)
