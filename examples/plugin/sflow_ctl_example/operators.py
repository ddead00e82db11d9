"""The operator `nice`: scripts run with a lower priority."""


class Nice:
    """Wraps commands in `nice`."""

    def render(self, command, instance):
        """Return the command, wrapped, and one more variable. `options`: {level: 1..19}, 10 by default."""
        level = instance.options.get("level", 10)
        if not isinstance(level, int) or not 1 <= level <= 19:
            raise ValueError(f"level is {level!r}, and has to be a number from 1 to 19")
        return ["nice", "-n", str(level), *command], {"NICE_LEVEL": str(level)}
