"""Reads the settings files of site and user, and determines the settings of one run.

Where there is no file, this costs two file system lookups.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from protocol.errors import Finding, SpecError
from sflow_ctl.format import schema
from sflow_ctl.planner.numbers import as_bytes, as_seconds
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
"""Fields that a slurm backend or a setting must have to request a job; a run inside a job does not need them.
"""


class SettingsLayers(msgspec.Struct, frozen=True):
    """Settings from outside of workflow files: the site's, the user's, and on top the command line's."""

    files: tuple[Layer, ...]
    said: Layer

    def of(self, loaded: "LoadedDocument") -> Effective:
        """Return the settings for a workflow. Raises: SpecError."""
        findings: list[Finding] = []
        own = workflow_layer(loaded, findings)
        if findings:
            raise SpecError(findings)
        return effective([*self.files, own, self.said])

    def without_workflow(self) -> Effective:
        """Return the settings for commands that have no workflow, or for which its settings do not matter."""
        return effective([*self.files, self.said])


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What agents measure of tasks and GPUs."""

    every_s: float = 1.0
    openmetrics: str | int | None = None
    """Where the newest values are published: the absolute path of a file, or a port."""


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one run, converted: absolute directories, durations in seconds."""

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
    """None for the fleet's default, which differs between this machine and a job."""
    agent_restarts: int = 0
    copy_limit_bytes: int = 10 << 30
    """Of one task, what is copied at most from or to nodes that do not share the run directory."""
    agent_link: str = "auto"
    """How agents of this machine talk to the controller, outside of a job: `auto` or `network`."""
    telemetry: TelemetrySettings | None = TelemetrySettings()
    """None: nothing is measured."""
    report: bool = True
    """Whether a report is written at the end."""


def settings_layers(said: Mapping[str, Any], environ: Mapping[str, str]) -> SettingsLayers:
    """Read the settings files that exist, and the options. Raises: SpecError with every problem in them."""
    findings: list[Finding] = []
    files = [_layer(path, findings) for path in settings_files(environ)]
    top = command_line_layer(said, findings)
    if findings:
        raise SpecError(findings)
    return SettingsLayers(tuple(files), top)


def settings_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the files that exist, the site's first. One that the environment names counts as existing."""
    named = environ.get(SITE_VARIABLE)
    home = environ.get("XDG_CONFIG_HOME", "")
    if not home.startswith("/"):  # such a value must be ignored (XDG Base Directory Specification)
        home = os.path.expanduser("~/.config")  # noqa: PTH111 - a user without home is not an error
    candidates = (named if named is not None else SITE_FILE, f"{home}/sflow/config.yaml")
    return [Path(path) for path in candidates if path and (path == named or _may_exist(path))]


def run_settings(found: Effective, workspace_dir: Path) -> RunSettings:
    """Return the settings as a run uses them. Raises: SpecError."""
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
        agent_restarts=settings.agent_restarts,
        copy_limit_bytes=as_bytes(settings.copy_limit),
        agent_link=settings.agent_link,
        orphan_grace_s=None if orphan_grace is None else as_seconds(orphan_grace),
        telemetry=_telemetry(found),
        report=settings.report,
    )


def _telemetry(found: Effective) -> TelemetrySettings | None:
    """Return what is measured; None for nothing. Raises: SpecError."""
    said = found.settings.telemetry
    if said is None:
        return TelemetrySettings()
    if not said.enabled:
        return None
    target = said.openmetrics
    return TelemetrySettings(
        every_s=as_seconds(said.every),
        openmetrics=str(_directory(found, "telemetry", target)) if isinstance(target, str) else target,
    )


def output_directory(found: Effective, default: Path) -> Path:
    """Return the directory for run directories. Raises: SpecError."""
    said = found.settings.output_dir
    return default if said is None else _directory(found, "output_dir", said)


def preamble(found: Effective) -> "Preamble":
    """Return the commands that come before a run, and the position of each."""
    from sflow_ctl.batch.preamble import Preamble  # few have one

    commands = found.settings.preamble
    return Preamble(tuple(commands), tuple(found.place("preamble", i) for i in range(len(commands))))


def job_fields(found: Effective) -> frozenset[str]:
    """Return the fields of a job request that a slurm backend may leave out."""
    return frozenset(name for name in JOB_FIELDS if getattr(found.settings, name) is not None)


def setting_path(found: Effective, key: str) -> Path | None:
    """Return the path that a setting names; None if it names none. Raises: SpecError."""
    said = getattr(found.settings, key)
    return None if said is None else _directory(found, key, said)


def _directory(found: Effective, key: str, text: str) -> Path:
    if found.origin(key) == COMMAND_LINE:
        return Path(text)  # the shell has replaced all of it
    path = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111 - before variables
    if "$" in path:
        what = f"{key} is {text}, but its variable is not set"
        raise SpecError.of("wrong-value", what, found.place(key), "set it, or name the directory")
    return Path(path)


def _may_exist(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - nothing is imported or made for a file that is not there
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # reading it will report why it cannot be read
    return True


def _layer(path: Path, findings: list[Finding]) -> Layer:
    from sflow_ctl.format.yaml_source import read_source  # `status` and similar commands read no other file

    source, problems = read_source(path, "settings file")
    findings += [problem for problem in problems if problem.code != "file-empty"]
    if source is None:
        return Layer({}, lambda _: str(path))
    return checked_layer(source.data, source.where, schema.SiteFile, findings)
