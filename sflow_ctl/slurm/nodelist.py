"""Expands Slurm's compressed node lists, `gpu[001-003,7],login`, to names. Pure."""

import itertools
from collections.abc import Iterator

from protocol.text.lazy_pattern import lazy_pattern

_BRACKETS = lazy_pattern(r"([^\[\]]*)\[([^\[\]]+)\]")
MAX_NODES = 100_000


class NodeListError(ValueError):
    """A text that is not a node list."""


def expand_nodelist(text: str) -> list[str]:
    """Return all names, in order. Several brackets in a name multiply. Raises: NodeListError.

    Source: Slurm's hostlist expressions, scontrol(1), `show hostnames`.
    """
    names: list[str] = []
    for part in _parts(text):
        choices = list(_choices(part))
        for combination in itertools.product(*choices):
            names.append("".join(combination))
            if len(names) > MAX_NODES:
                raise NodeListError(f"more than {MAX_NODES} nodes")
    return names


def _parts(text: str) -> Iterator[str]:
    """Return the list cut at commas that are not within brackets."""
    depth, start = 0, 0
    for position, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            raise NodeListError(f'"{text}" has brackets that do not match')
        if character == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    if depth:
        raise NodeListError(f'"{text}" has brackets that do not match')
    yield text[start:]


def _choices(part: str) -> Iterator[list[str]]:
    position = 0
    for match in _BRACKETS.finditer(part):
        if match.start() != position:
            break
        yield [match[1]]
        yield list(_numbers(match[2]))
        position = match.end()
    rest = part[position:]
    if not part or "[" in rest or "]" in rest or any(character.isspace() for character in part):
        raise NodeListError(f'"{part}" is not the name of a node')
    yield [rest]


def _numbers(ranges: str) -> Iterator[str]:
    for one in ranges.split(","):
        low, dash, high = one.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise NodeListError(f'"{one}" is not a number or range')
        if not dash:
            yield low
            continue
        if int(high) - int(low) > MAX_NODES:
            raise NodeListError(f'"{one}" is more than {MAX_NODES} nodes')
        for number in range(int(low), int(high) + 1):
            yield f"{number:0{len(low)}d}"
