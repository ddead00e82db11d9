"""A number with its noun, as every message writes it: `1 node`, `2 nodes`. Used by all three packages."""


def counted(number: int, noun: str) -> str:
    """Return the number and its noun, which gets an s (`process`: es) unless the number is 1."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
