"""`sflow-ctl init`: a first workflow file, with comments."""

from pathlib import Path

import click

from protocol.errors import ExitStatus
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.runtime.files.templates import DEFAULT, SCHEMA_FILE, template_text, templates, write_new_file


@click.command()
@click.argument("template", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("sflow.yaml"),
    show_default=True,
    help="File to write, or directory for sflow.yaml.",
)
@click.option("--no-schema", is_flag=True, help="Do not write the schema for editors.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.option("--list", "is_list", is_flag=True, help="List the templates.")
def init(template: str | None, output: Path, no_schema: bool, force: bool, is_list: bool) -> int:
    """Write a small commented workflow to begin with: sflow.yaml.

    TEMPLATE is serve-and-bench (default), train-eval or sweep. Each runs on a laptop as it is. The JSON Schema is written
    beside the file, as .sflow.schema.json, and named in its first line: editors with the YAML language server then complete
    and check what you type.
    """
    if is_list:
        for name, about in templates().items():
            print_line(f"{name:<{max(map(len, templates()))}}  {about}")
        return int(ExitStatus.OK)
    path = output / "sflow.yaml" if output.is_dir() else output
    write_new_file(path, template_text(template or DEFAULT, has_schema=not no_schema), is_forced=force)
    if not no_schema:
        from sflow_ctl.format.reference.jsonschema import schema_text

        write_new_file(path.parent / SCHEMA_FILE, schema_text(), is_forced=True)
    file = "" if path == Path("sflow.yaml") else f" {display_path(path)}"
    print_line(f"✓ Saved to {display_path(path)}. Try it: sflow-ctl run{file}")
    return int(ExitStatus.OK)
