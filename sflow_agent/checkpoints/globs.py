"""Patterns of paths below a directory, as regular expressions for relative paths. Pure.

As in a shell: `*` and `?` match within a name, and none that begins with a dot; `**` stands for any folders.
"""

import re
from functools import cache


def is_glob(text: str) -> bool:
    """Return whether a text may mean several paths."""
    return any(character in text for character in "*?[")


@cache
def glob_regex(glob: str) -> re.Pattern[str]:
    """Return the expression that matches the whole of each relative path which the pattern means."""
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    text = ""
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "**":
            text += r"(?:(?!\.)[^/]+/)*(?!\.)[^/]+" if is_last else r"(?:(?!\.)[^/]+/)*"
            continue
        text += _name(part) + ("" if is_last else "/")
    return re.compile(text, re.DOTALL)


def _name(part: str) -> str:
    """Return the expression for one name."""
    text = "" if part.startswith(".") else r"(?!\.)"
    at = 0
    while at < len(part):
        character = part[at]
        at += 1
        if character == "*":
            if not text.endswith("[^/]*"):
                text += "[^/]*"
        elif character == "?":
            text += "[^/]"
        elif character == "[" and (end := part.find("]", at + 2 if part[at : at + 1] == "!" else at + 1)) > 0:
            inside = part[at:end].replace("\\", r"\\").replace("[", r"\[")
            inside = f"^{inside[1:]}" if inside.startswith("!") else inside.replace("^", r"\^")
            text += f"(?!/)[{inside}]"
            at = end + 1
        else:
            text += re.escape(character)
    return text
