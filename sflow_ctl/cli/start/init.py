"""`sflow-ctl init`: a first workflow file, with comments."""

from pathlib import Path

import click
import msgspec

from protocol.errors import ExitStatus, Finding, SpecError, UsageError
from sflow_ctl.cli.options.paths import file_or_directory
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.runtime.files.templates import (
    DEFAULT,
    SCHEMA_FILE,
    SCHEMA_LINE,
    template_text,
    templates,
    write_new_file,
)


class TemplateEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow to begin with."""

    name: str
    """As `init` takes it."""
    about: str
    """What it shows."""


class TemplateList(msgspec.Struct, frozen=True, kw_only=True):
    """`init --list --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    templates: tuple[TemplateEntry, ...]
    """In the order of the list."""


class InitReport(msgspec.Struct, frozen=True, kw_only=True):
    """`init --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    path: str
    """The file that was written, absolute."""
    schema: str
    """The JSON Schema beside it, absolute; empty if there is none."""
    next: str
    """The command to try it."""


@click.command()
@click.argument("template", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    default="sflow.yaml",
    show_default=True,
    help="File to write, or directory for sflow.yaml; DIR/ is made if it is not there.",
)
@click.option("--no-schema", is_flag=True, help="Do not write the schema for editors.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.option("--list", "is_list", is_flag=True, help="List the templates.")
@click.option(
    "--from-slurmforge",
    "old",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the workflow of this experiment of slurmforge instead (0.x or 1.x).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(
    template: str | None,
    output: str,
    no_schema: bool,
    force: bool,
    is_list: bool,
    old: Path | None,
    as_json: bool,
) -> int:
    """Write a small commented workflow to begin with: sflow.yaml.

    TEMPLATE is serve-and-bench (default), train-eval, sweep, map-reduce or resume-demo. Each runs on a laptop as it is. The
    JSON Schema is written beside the file, as .sflow.schema.json, and named in its first line: editors with the YAML
    language server then complete and check what you type.
    """
    if is_list and as_json:
        known = (TemplateEntry(name=name, about=about) for name, about in templates().items())
        print_json(TemplateList(templates=tuple(known)))
        return int(ExitStatus.OK)
    if is_list:
        for name, about in templates().items():
            print_line(f"{name:<{max(map(len, templates()))}}  {about}")
        return int(ExitStatus.OK)
    path = file_or_directory(output, "sflow.yaml")
    if old is not None:
        if template is not None:
            hint = f"drop {template}, or --from-slurmforge"
            raise UsageError.of(
                "conflicting-options", "a template and --from-slurmforge are given", hint=hint
            )
        text, command = _from_slurmforge(old), "validate"
    else:
        text, command = template_text(template or DEFAULT), "run"
    write_new_file(path, text if no_schema else f"{SCHEMA_LINE}{text}", is_forced=force)
    if not no_schema:
        from sflow_ctl.format.reference.jsonschema import schema_text

        write_new_file(path.parent / SCHEMA_FILE, schema_text(), is_forced=True)
    file = "" if path == Path("sflow.yaml") else f" {display_path(path)}"
    if as_json:
        schema = "" if no_schema else str((path.parent / SCHEMA_FILE).absolute())
        print_json(InitReport(path=str(path.absolute()), schema=schema, next=f"sflow-ctl {command}{file}"))
        return int(ExitStatus.OK)
    print_line(f"✓ Saved to {display_path(path)}. Try it: sflow-ctl {command}{file}")
    return int(ExitStatus.OK)


def _from_slurmforge(old: Path) -> str:
    """Return the workflow of an experiment of slurmforge, and print what is otherwise in it. Raises: SpecError."""
    from sflow_ctl.cli.terminal.findings import print_warnings
    from sflow_ctl.format.slurmforge.convert import convert
    from sflow_ctl.format.yaml_source import read_source

    source, problems = read_source(old, "experiment")
    if source is None or problems:
        raise SpecError(problems)

    def read(script: str) -> str | None:
        try:
            return (old.parent / script).read_text(encoding="utf-8")
        except (
            OSError,
            ValueError,
        ):  # not there, a directory, or no text: the flags of a script are a nicety
            return None

    converted = convert(source, read)
    print_warnings(
        [Finding("not-as-it-was", f"{one.key}: {one.reason}", one.where) for one in converted.left]
    )
    return converted.text
