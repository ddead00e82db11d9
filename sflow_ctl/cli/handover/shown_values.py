"""A value of an output in one short line."""

from typing import Any

import msgspec

MAX_CHARACTERS = 60


def shown_value(value: Any, most: int = MAX_CHARACTERS) -> str:
    """Return a value as text, cut where it is long."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = text.replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 3]}..."
