"""HTML that cannot be mixed up with text: every text becomes markup by being escaped. Pure.

The modules of this folder make the page of `tag` alone. A template language would be imported at the end of every run.
"""

from collections.abc import Iterable
from functools import lru_cache

Attribute = str | int | float | bool | None
_VOID = frozenset(
    {"br", "col", "hr", "img", "input", "link", "meta", "circle", "line", "path", "rect", "use"}
)
_SHOWN = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)}
_SHOWN |= {0x7F: "\u2421", **dict.fromkeys(range(0x80, 0xA0), "\ufffd")}
_SHOWN |= dict.fromkeys((0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")
_SHOWN |= dict.fromkeys((0x2028, 0x2029, 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)), "\ufffd")
"""Controls, changes of the writing direction and halves of characters, as something that can be seen."""


class Markup(str):
    """HTML. Made by the functions below, and by nothing else."""

    __slots__ = ()


Child = str | Markup | None
NOTHING = Markup()


def escaped(text: object) -> Markup:
    """Return a text as markup."""
    if isinstance(text, Markup):
        return text
    said = str(text)
    if not said.isprintable():
        said = said.translate(_SHOWN)
    if not said.isalnum():
        said = said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        said = said.replace('"', "&quot;").replace("'", "&#x27;")
    return Markup(said)


def tag(element: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Return an element. `class_` is `class`, `data_value` is `data-value`; an attribute that is None or False is left out."""
    head = f"<{element}{_attributes(attributes)}"
    if element in _VOID and not children:
        return Markup(f"{head}>" if element not in ("rect", "path", "line", "circle", "use") else f"{head}/>")
    return Markup(f"{head}>{joined(children)}</{element}>")


def joined(children: Iterable[Child], between: str = "") -> Markup:
    """Return markup and texts one after the other."""
    return Markup(between.join(escaped(child) for child in children if child is not None))


def _attributes(attributes: dict[str, Attribute]) -> str:
    return "".join(
        [_attribute(*one) for one in attributes.items() if one[1] is not None and one[1] is not False]
    )


@lru_cache(4096, typed=True)  # many elements have the same, and 1 is not 1.0
def _attribute(name: str, value: Attribute) -> str:
    name = name.rstrip("_").replace("_", "-")
    name = {"viewbox": "viewBox", "preserveaspectratio": "preserveAspectRatio"}.get(name, name)
    return f" {name}" if value is True else f' {name}="{escaped(value)}"'
