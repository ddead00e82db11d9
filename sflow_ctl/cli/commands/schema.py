"""`sflow-ctl schema`: the formats as JSON Schema, for editors, and one field of them in words."""

import click

from sflow_ctl.cli.terminal.lines import print_document, print_line


@click.command()
@click.argument("path", required=False, metavar="[KEY.PATH]")
@click.option("--site", is_flag=True, help="Print the schema of site and user settings files.")
def schema(path: str | None, site: bool) -> int:
    """Print the JSON Schema of workflow files, for editors; with KEY.PATH, what the format says of one field.

    KEY.PATH is the path of a field without names of entries, for example workflow.tasks.probes or sweep.axes: what it takes, its
    default, its meaning and an example.
    """
    if path is not None:
        from sflow_ctl.cli.terminal.field_text import field_text

        print_line(field_text(path))
        return 0
    from sflow_ctl.format.reference.jsonschema import schema_text, site_schema_text

    print_document(site_schema_text() if site else schema_text())
    return 0
