"""Names of variables for values of a foreign file."""

import re
from typing import Any

from msgspec import Struct, field

from sflow_ctl.format.written import plain

_NOT_IN_NAMES = re.compile(r"\W+", re.ASCII)
_TAKEN = frozenset(
    (
        *(
            "task",
            "tasks",
            "sweep",
            "variables",
            "artifacts",
            "backends",
            "backend",
            "port",
            "ports",
            "replica",
            "workflow",
        ),
        *("env", "run", "node", "nodes", "self", "args", "true", "false", "none", "True", "False", "None"),
        *("and", "or", "not", "in", "is", "if", "else", "for", "import"),
        *(
            "PATH",
            "HOME",
            "USER",
            "SHELL",
            "IFS",
            "PWD",
            "LANG",
            "TMPDIR",
            "PYTHONPATH",
            "LD_LIBRARY_PATH",
            "HOSTNAME",
        ),
        *("UID", "EUID", "PPID", "RANDOM", "SECONDS", "BASH", "OPTARG", "OPTIND", "PS1", "PS4"),
    )
)
"""Words of expressions, and variables that shells and programs need as they are."""
_RESERVED_STARTS = ("SFLOW_", "SLURM_", "BASH_")


class Variables(Struct):
    """The variables of the new file, and what of the old one they stand for."""

    values: dict[str, Any] = field(default_factory=dict)
    _names: dict[tuple[str, ...], str] = field(default_factory=dict)

    def name(self, origin: tuple[str, ...], value: Any, wanted: str | None = None) -> str:
        """Return the variable for a value of the old file, made with this value if there is none yet."""
        known = self._names.get(origin)
        if known is not None:
            return known
        name = self._free(wanted or origin[-1], origin)
        self._names[origin] = name
        self.values[name] = value
        return name

    def of(self, origin: tuple[str, ...]) -> str | None:
        """Return the variable that stands for a value of the old file."""
        return self._names.get(origin)

    @property
    def origins(self) -> list[tuple[str, ...]]:
        """The values of the old file that have variables, in the order in which they got them."""
        return list(self._names)

    def is_boolean(self, name: str) -> bool:
        """Return whether the value is true or false."""
        return isinstance(plain(self.values[name]), bool)

    def _free(self, wanted: str, origin: tuple[str, ...]) -> str:
        name = _NOT_IN_NAMES.sub("_", wanted.lstrip("-")) or "value"
        if name[0].isdigit() or name in _TAKEN or name.startswith(_RESERVED_STARTS) or name.startswith("_"):
            name = f"arg_{name.lstrip('_')}"
        if name in self.values:
            name = f"{_NOT_IN_NAMES.sub('_', origin[0])}_{name}"
        count = 2
        free = name
        while free in self.values:
            free, count = f"{name}_{count}", count + 1
        return free


def safe_name(text: str) -> str:
    """Return a text as the name of a workflow, a task or a case."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "experiment"
