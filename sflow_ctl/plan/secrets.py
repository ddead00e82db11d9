"""The secrets that this process has read: names from `secrets:`, and their values, as they become known.

One registry for the whole process, because a value may come up wherever a text is shown or recorded, also in the error
that ends the reading of the very file. The loader and the planner tell it values; everything that writes to a terminal
or into a run directory asks it.
"""

from collections.abc import Iterable, Mapping

from protocol.text.masking import MIN_CHARACTERS, Mask, mark_of, parts_of

_EXPRESSION = "${{"


class Secrets:
    """Names, values and the mask made of them."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._values: dict[str, str] = {}
        """Value to name."""
        self.mask = Mask()

    def declare(self, names: Iterable[str], environ: Mapping[str, str] | None = None) -> None:
        """Add names; take their values from an environment, if one is given."""
        self._names.update(names)
        for name in self._names if environ is not None else ():
            self.learn(name, (environ or {}).get(name))

    def learn(self, name: str, value: object) -> None:
        """Take in a value of a variable, if that is a secret. An expression is not a value yet."""
        if name not in self._names:
            return
        fresh = {
            part: name
            for part in parts_of(value)
            if part not in self._values and _EXPRESSION not in part and part != mark_of(name)
        }
        if fresh:
            self._values |= fresh
            self.mask = Mask((name, value) for value, name in self._values.items())

    def take(self, values: Iterable[tuple[str, str]]) -> bool:
        """Declare and learn (name, value) pairs; return whether any value is new."""
        before = len(self._values)
        for name, value in values:
            self.declare([name])
            self.learn(name, value)
        return len(self._values) > before

    def learn_from(self, values: Mapping[str, object]) -> None:
        """Take in the values of all variables that are secrets."""
        for name in self._names & values.keys():
            self.learn(name, values[name])

    @property
    def has_names(self) -> bool:
        """Whether any secret is declared."""
        return bool(self._names)

    def values(self) -> tuple[tuple[str, str], ...]:
        """Return (name, value) of all that is known."""
        return tuple((name, value) for value, name in self._values.items())

    def too_short(self) -> list[str]:
        """Return the names of secrets whose values are too short to be found in texts."""
        return sorted({name for value, name in self._values.items() if 0 < len(value) < MIN_CHARACTERS})

    def forget(self) -> None:
        """Forget everything, for the tests."""
        self._names.clear()
        self._values.clear()
        self.mask = Mask()


SECRETS = Secrets()
"""Those of this process."""
