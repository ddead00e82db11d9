"""`sflow-ctl validate`: what is wrong with a workflow, and nothing else."""

import sys
from typing import Any

import click
import msgspec

from protocol.errors import ExitStatus, Finding, FleetError, SpecError
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.cli.options.given import run_options
from sflow_ctl.cli.options.sections import SectionedCommand
from sflow_ctl.cli.options.workflow_options import workflow_options
from sflow_ctl.cli.terminal.findings import Level, print_findings, print_warnings
from sflow_ctl.cli.terminal.lines import print_json, print_line

_PLACE = lazy_pattern(r"(?P<file>.+?):(?P<line>\d+):(?P<column>\d+)(?:\s+(?P<field>\S.*))?")


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """One finding. Lines and columns are counted from 1; null where a finding is not about a place of a file."""

    level: Level
    """`error` or `warning`."""
    code: str
    """Of reference/messages.md."""
    what: str
    """The sentence."""
    file: str | None
    """The file, as it was named."""
    line: int | None
    """The line."""
    column: int | None
    """The column."""
    field: str | None
    """The path of the field, as `workflow.tasks[0].script`; of a finding without a file, what it is about."""
    hint: str | None
    """The remedy."""


class Diagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """`validate --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    is_valid: bool
    """There are no errors."""
    findings: tuple[Diagnostic, ...]
    """All errors, then all warnings."""


@click.command(cls=SectionedCommand)
@workflow_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(as_json: bool, **options: Any) -> int:
    """Check a workflow, and print what is wrong with it; WORKFLOW defaults to ./sflow.yaml. Starts nothing.

    All findings of all stages are printed at once: syntax, fields, names, expressions, the graph, nodes and GPUs. The exit
    status is 0 for a valid workflow, also with warnings, and 2 for one with errors; --strict makes errors of warnings. A pipe
    or file gets a line for each finding, as FILE:LINE:COLUMN: error[CODE]: TEXT.
    """
    from sflow_ctl.runtime.run.planning import plan_run, read_run

    error: FleetError | None = None
    warnings: tuple[Finding, ...] = ()
    chosen = run_options(**options)
    try:
        warnings = plan_run(read_run(chosen), chosen, is_dry=True).plan.warnings
    except FleetError as problem:
        error = problem
    errors = () if error is None else error.findings
    if chosen.workflow.refuses_ignored and warnings and error is None:
        errors, warnings = warnings, ()
        error = SpecError(errors)
    found = [
        *(_diagnostic(one, "error") for one in errors),
        *(_diagnostic(one, "warning") for one in warnings),
    ]
    if as_json:
        print_json(Diagnostics(is_valid=error is None, findings=tuple(found)))
    elif sys.stdout.isatty():
        if error is not None:
            print_findings(error)
        print_warnings(warnings)
        if error is None:
            print_line("✓ Configuration is valid")
    else:
        for one in found:
            print_line(_line(one))
    return int(ExitStatus.OK if error is None else error.exit_status)


def _diagnostic(finding: Finding, level: Level) -> Diagnostic:
    match = _PLACE.fullmatch(finding.where or "")
    return Diagnostic(
        level=level,
        code=finding.code,
        what=finding.what,
        file=match["file"] if match is not None else None,
        line=int(match["line"]) if match is not None else None,
        column=int(match["column"]) if match is not None else None,
        field=match["field"] if match is not None else finding.where,
        hint=finding.hint,
    )


def _line(one: Diagnostic) -> str:
    place = (
        f"{one.file}:{one.line}:{one.column}: "
        if one.file is not None
        else f"{one.field}: "
        if one.field
        else ""
    )
    hint = f"; {one.hint}" if one.hint else ""
    return f"{place}{one.level}[{one.code}]: {one.what}{hint}".replace("\n", " ")
