"""Makes `RunOptions` of the options that a command was given, however its command line was read."""

from pathlib import Path
from typing import Any

from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.plan.words import Compat
from sflow_ctl.runtime.run.options import RunOptions

COMPAT: dict[str, Compat] = {"strict": "0.3.1", "0.2": "0.2"}
NAMES = (
    *("partition", "account", "qos", "reservation", "launch_flags", "interface", "container_engine"),
    *("log_spool", "join_within", "headroom", "lost_after", "orphan_grace", "agent_restarts", "report"),
)
"""Settings that options override, besides `output_dir`."""


def run_options(
    *,
    workflow: tuple[Path, ...],
    files: tuple[Path, ...],
    workspace_dir: Path,
    output_dir: Path | None,
    compat: str | None,
    **others: Any,
) -> RunOptions:
    """Return the options as the runtime takes them: files in order, directories absolute, `others` unchanged."""
    return RunOptions.of(
        files=(*workflow, *files) or (Path("sflow.yaml"),),
        are_files_given=bool(workflow or files),
        workspace_dir=absolute(workspace_dir),
        settings=cli_settings(others, output_dir),
        compat=COMPAT.get(compat or "", "ours"),
        **others,
    )


def cli_settings(options: dict[str, Any], output_dir: Path | None) -> dict[str, Any]:
    """Remove the settings from a command's options and return those that were given."""
    said: dict[str, Any] = {}
    for name in NAMES:
        value = options.pop(name, None)
        if value not in (None, ()):
            said[name] = list(value) if isinstance(value, tuple) else value
    for name, path in (("output_dir", output_dir), ("log_spool", said.get("log_spool"))):
        if path is not None:
            said[name] = str(absolute(path))
    return said
