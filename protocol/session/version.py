"""The protocol's version, and which two versions can communicate."""

PROTOCOL_VERSION: tuple[int, int] = (1, 0)
"""(major, minor). Minor grows with an optional field or a new message, major with anything else."""


def is_compatible(mine: tuple[int, int], theirs: tuple[int, int]) -> bool:
    """Return whether the majors are equal: a minor only adds what the other side may ignore."""
    return mine[0] == theirs[0]
