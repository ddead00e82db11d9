"""One stage of an experiment, training or evaluation, and the task that it becomes. Both generations make these."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from sflow_ctl.format.slurmforge.flags import Flag, command
from sflow_ctl.format.slurmforge.job import Request, limit, resources

RESULT_DIRS = {
    "AI_INFRA_RESULT_DIR": "$SFLOW_TASK_OUTPUT_DIR",
    "AI_INFRA_CHECKPOINT_DIR": "$SFLOW_TASK_OUTPUT_DIR/checkpoints",
    "AI_INFRA_META_DIR": "$SFLOW_TASK_OUTPUT_DIR/meta",
    "AI_INFRA_EVAL_CSV_DIR": "$SFLOW_TASK_OUTPUT_DIR/eval_csv",
    "AI_INFRA_EVAL_IMAGE_DIR": "$SFLOW_TASK_OUTPUT_DIR/eval_images",
}
"""What programs written for slurmforge 0.x find in their environment."""
CHECKPOINT_ARGUMENT = "${{ checkpoint.args }}"
"""The option and the path of the checkpoint in a script; nothing for an attempt that begins anew."""
IN_WORKSPACE = '"$SFLOW_WORKSPACE_DIR"'


class Stage(Struct, kw_only=True):
    """A program, its arguments, and what it needs."""

    name: str
    request: Request
    program: Sequence[str] = ()
    """The words of the program, as bash reads them."""
    flags: list[Flag] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """Further words, as bash reads them."""
    exports: dict[str, str] = field(default_factory=dict)
    """Variables of the environment, their values as bash reads them between double quotes."""
    before: list[str] = field(default_factory=list)
    """Lines before the program."""
    workdir: str = "."
    in_own_directory: bool = False
    """Run it in the directory of the task, not in that of the project."""
    processes: int | str | None = None
    """Processes on each node that torchrun starts; None for a program that is started as it is."""
    launcher: str | None = None
    """Another launcher of ours."""
    operator: dict[str, Any] | None = None
    """How its processes are started, if not by bash."""
    environment: str | None = None
    """The environment of the new file that is set up before it."""
    checkpoint: dict[str, Any] = field(default_factory=dict)
    """What a further attempt continues from."""
    files: dict[str, str] = field(default_factory=dict)
    depends_on: list[str] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def task(self, backend: str | None) -> dict[str, Any]:
        """Return the task."""
        launcher = (
            {"type": "torchrun", "nproc": self.processes} if self.processes is not None else self.launcher
        )
        time = limit(self.request)
        return {
            "name": self.name,
            **({"depends_on": self.depends_on} if self.depends_on else {}),
            **({"backend": backend, "resources": resources(self.request)} if backend else {}),
            **({"launcher": launcher} if launcher else {}),
            **({"operator": self.operator} if self.operator else {}),
            **({"environment": self.environment} if self.environment else {}),
            **({"timeout": time} if time else {}),
            **({"checkpoint": self.checkpoint} if self.checkpoint else {}),
            **({"files": self.files} if self.files else {}),
            **({"inputs": self.inputs} if self.inputs else {}),
            "script": "\n".join(self._lines()) + "\n",
            **({"outputs": self.outputs} if self.outputs else {}),
        }

    def _lines(self) -> list[str]:
        lines = ["set -euo pipefail"]
        lines += [f'export {name}="{value}"' for name, value in self.exports.items()]
        made = [f'"${name}"' for name in self.exports if name.endswith("_DIR")]
        lines += [f"mkdir -p {' '.join(made)}"] if made else []
        if self.in_own_directory:
            lines.append('cd "$SFLOW_TASK_OUTPUT_DIR"')
        elif self.workdir not in (".", "./", ""):
            lines.append(f"cd {in_workspace(self.workdir)}")
        return [*lines, *self.before, *command(self.program, self.flags, self.words)]

    def path(self, script: str) -> str:
        """Return a path of the project as bash reads it, from the directory that the program runs in."""
        is_there = self.workdir in (".", "./", "") and not self.in_own_directory
        return shlex.quote(script) if is_there else in_workspace(script)


def in_workspace(path: str) -> str:
    """Return a path of the project as bash reads it: that of an absolute one itself."""
    return shlex.quote(path) if path.startswith("/") else f"{IN_WORKSPACE}/{shlex.quote(path)}"


def json_file(values: dict[str, str], constants: dict[str, Any] | None = None) -> str:
    """Return the template of a JSON file with the values of variables, by the names that the program knows."""
    pairs = [f"{name!r}: {variable}" for name, variable in values.items()]
    pairs += [f"{name!r}: {value!r}" for name, value in (constants or {}).items()]
    return "${{ {" + ", ".join(pairs) + "} | tojson }}"


def plain_name(name: str) -> str:
    """Return the name of an input or output as ours may be."""
    text = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return text if text[:1].isalpha() else f"o_{text}"
