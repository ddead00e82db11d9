"""Reads the command line of a plain `run` without click: importing click and all options takes a while.

Plain are files and the options below. Everything else is left to click: other options, mistakes, short options in one word,
variables that stand for options, runs that continue. A test compares the two.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sflow_ctl.cli.options.given import run_options
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.supervision.lifeline import lifeline

FLAGS = {"-q": "quiet", "--quiet": "quiet", "--keep-alive": "keep_alive"}
ONE = {"--output-dir": "output_dir", "--run-id": "run_id"}
MANY = {
    "-f": "files",
    "--file": "files",
    "-s": "overrides",
    "--set": "overrides",
    "--input": "overrides",
    "-a": "artifacts",
    "--artifact": "artifacts",
    "-t": "tasks",
    "--task": "tasks",
    "--label": "labels",
}
"""Options and the choices that they make."""
_PATHS = frozenset(("workflow", "files", "output_dir"))
VARIABLES = frozenset(
    ("SFLOW_SIMULATE_GPUS", "SFLOW_WAIT_FOR_GPUS", "SLURM_RESTART_COUNT", "_SFLOW_CTL_COMPLETE")
)
"""Variables of the environment that click, or the command itself, has to look at."""


def plain_options(argv: Sequence[str], environ: Mapping[str, str]) -> RunOptions | None:
    """Return the options of a run whose command line is plain; `argv` begins with the program. None leaves it to click."""
    line = lifeline()
    if (
        argv[1:2] != ["run"]
        or not VARIABLES.isdisjoint(environ)
        or (line is not None and line.death is not None)
    ):
        return None
    words = [*argv[:1:-1]]
    given: dict[str, Any] = {
        "workflow": (),
        "files": (),
        "workspace_dir": Path(),
        "output_dir": None,
        "compat": None,
    }
    while words:
        word = words.pop()
        option, equals, value = word.partition("=")
        if word in FLAGS:
            given[FLAGS[word]] = True
            continue
        name = ONE.get(option) or MANY.get(option)
        if not word.startswith("-"):
            name, value = "workflow", word
        elif name is None or (equals and not option.startswith("--")):
            return None
        elif not equals:
            value = words.pop() if words else ""
        if not value or value.startswith("-"):
            return None
        if option == "--input":
            if "=@" in value:
                return None
            value = f"inputs.{value}"
        chosen = Path(value) if name in _PATHS else value
        given[name] = chosen if option in ONE else (*given.get(name, ()), chosen)
    return run_options(argv=tuple(argv), **given)
