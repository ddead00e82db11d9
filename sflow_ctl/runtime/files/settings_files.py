"""The files that a site and a user keep their settings in, and the settings of one run.

Where there is no file, this costs two looks at the file system.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from protocol.errors import Finding, SpecError
from sflow_ctl.format import schema
from sflow_ctl.planner.numbers import as_seconds
from sflow_ctl.settings import (
    COMMAND_LINE,
    Effective,
    Layer,
    checked_layer,
    command_line_layer,
    effective,
    workflow_layer,
)

if TYPE_CHECKING:
    from sflow_ctl.batch.preamble import Preamble
    from sflow_ctl.format.loader import LoadedDocument

SITE_VARIABLE = "SFLOW_SITE_FILE"
SITE_FILE = "/etc/sflow/site.yaml"
OUTPUT_DIRECTORY = "sflow_output"
JOB_FIELDS = ("account", "partition")
"""What a slurm backend or a setting must say where a job is asked for; inside a job nothing depends on it."""


class SettingsLayers(msgspec.Struct, frozen=True):
    """What is said outside of workflow files: by the site, the user, and on top the command line."""

    files: tuple[Layer, ...]
    said: Layer

    def of(self, loaded: "LoadedDocument") -> Effective:
        """The settings for a workflow. Raises: SpecError."""
        findings: list[Finding] = []
        own = workflow_layer(loaded, findings)
        if findings:
            raise SpecError(findings)
        return effective([*self.files, own, self.said])

    def without_workflow(self) -> Effective:
        """The settings where there is no workflow, or it can say nothing about them."""
        return effective([*self.files, self.said])


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one run as it uses them: directories from the root, durations in seconds."""

    output_dir: Path
    log_spool: Path | None
    interface: str | None
    python: str | None
    launch_flags: tuple[str, ...]
    step_gres: bool = True
    join_within_s: float
    headroom_s: float
    lost_after_s: float
    orphan_grace_s: float | None
    """None: the fleet's own, which differs between this machine and a job."""


def settings_layers(said: Mapping[str, Any], environ: Mapping[str, str]) -> SettingsLayers:
    """The layers of the files there are, and of options. Raises: SpecError with everything that is wrong with them."""
    findings: list[Finding] = []
    files = [_layer(path, findings) for path in settings_files(environ)]
    top = command_line_layer(said, findings)
    if findings:
        raise SpecError(findings)
    return SettingsLayers(tuple(files), top)


def settings_files(environ: Mapping[str, str]) -> list[Path]:
    """Those that exist, the site's first. One that the environment names counts as existing."""
    named = environ.get(SITE_VARIABLE)
    home = environ.get("XDG_CONFIG_HOME", "")
    if not home.startswith("/"):  # such a value is to be ignored (XDG Base Directory Specification)
        home = os.path.expanduser("~/.config")  # noqa: PTH111 - a user without home is no error
    candidates = (named if named is not None else SITE_FILE, f"{home}/sflow/config.yaml")
    return [Path(path) for path in candidates if path and (path == named or _may_exist(path))]


def run_settings(found: Effective, workspace_dir: Path) -> RunSettings:
    """The settings as a run uses them. Raises: SpecError."""
    settings = found.settings
    orphan_grace = settings.orphan_grace
    return RunSettings(
        output_dir=output_directory(found, workspace_dir / OUTPUT_DIRECTORY),
        log_spool=None if settings.log_spool is None else _directory(found, "log_spool", settings.log_spool),
        interface=settings.interface,
        python=settings.python,
        launch_flags=tuple(settings.launch_flags),
        step_gres=settings.step_gres,
        join_within_s=as_seconds(settings.join_within),
        headroom_s=as_seconds(settings.headroom),
        lost_after_s=as_seconds(settings.lost_after),
        orphan_grace_s=None if orphan_grace is None else as_seconds(orphan_grace),
    )


def output_directory(found: Effective, default: Path) -> Path:
    """Where run directories go. Raises: SpecError."""
    said = found.settings.output_dir
    return default if said is None else _directory(found, "output_dir", said)


def preamble(found: Effective) -> "Preamble":
    """The commands that come before a run, and where each stands."""
    from sflow_ctl.batch.preamble import Preamble  # few have one

    commands = found.settings.preamble
    return Preamble(tuple(commands), tuple(found.place("preamble", i) for i in range(len(commands))))


def job_fields(found: Effective) -> frozenset[str]:
    """Fields of a job to be asked for that a slurm backend need not have."""
    return frozenset(name for name in JOB_FIELDS if getattr(found.settings, name) is not None)


def _directory(found: Effective, key: str, text: str) -> Path:
    if found.origin(key) == COMMAND_LINE:
        return Path(text)  # the shell has replaced what was to be
    path = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111 - before variables
    if "$" in path:
        what = f"{key} is {text}, and nothing sets its variable"
        raise SpecError.of("wrong-value", what, found.place(key), "set it, or name the directory")
    return Path(path)


def _may_exist(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - nothing is imported or made for a file that is not there
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # reading it will say why it cannot be read
    return True


def _layer(path: Path, findings: list[Finding]) -> Layer:
    from sflow_ctl.format.yaml_source import read_source  # `status` and the like read no other file

    source, problems = read_source(path, "settings file")
    findings += [problem for problem in problems if problem.code != "file-empty"]
    if source is None:
        return Layer({}, lambda _: str(path))
    return checked_layer(source.data, source.where, schema.SiteFile, findings)
