"""Resolves `extends`: an operator that is another one with changes. Called before operators are converted."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from protocol.errors import Finding
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.merged.items import Item

EXTENDS = "extends"


def extended(items: Sequence[Item], findings: list[Finding]) -> list[Item]:
    """Return the operators, in the same order, with the fields of those they extend; problems go to `findings`.

    As where a task overrides its operator: fields are replaced, `extra_args` are appended, `null` changes nothing.
    """
    by_name = {item.name: item for item in items}
    return [_extended(item, by_name, findings) for item in items]


def _extended(item: Item, by_name: dict[str, Item], findings: list[Finding]) -> Item:
    chain = [item]
    while (base := chain[-1].body.get(EXTENDS)) is not None:
        problem = _problem(base, chain, by_name)
        if problem is not None:
            # Reported once: for the operator that names a missing one, or for the first one of a cycle.
            if len(chain) == 1 or (base == item.name and item.name == min(link.name for link in chain)):
                findings.append(problem)
            break
        chain.append(by_name[base])
    body: dict[str, Any] = {}
    for link in reversed(chain):
        body = overridden(body, {key: value for key, value in link.body.items() if key != EXTENDS})
    if EXTENDS not in item.body:
        return item
    return replace(item, body=body)


def overridden(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return an operator's fields with changes applied."""
    body = dict(base)
    for key, value in changes.items():
        if key == "extra_args" and isinstance(value, list) and isinstance(body.get(key), list):
            body[key] = [*body[key], *value]
        elif value is not None or key not in body:
            body[key] = value
    return body


def _problem(base: Any, chain: list[Item], by_name: dict[str, Item]) -> Finding | None:
    where = chain[-1].where(EXTENDS)
    if not isinstance(base, str):
        return Finding("wrong-type", "expected the name of an operator", where)
    if base not in by_name:
        hint = guess_hint(base, sorted(by_name), "extends: takes the name of another entry")
        return Finding(
            "unknown-operator", f'operator "{chain[-1].name}" extends unknown operator "{base}"', where, hint
        )
    names = [link.name for link in chain]
    if base in names:
        cycle = " -> ".join((*names[names.index(base) :], base))
        return Finding("cycle", f"operators extend each other: {cycle}", where, "remove one extends:")
    return None
