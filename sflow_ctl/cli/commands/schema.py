"""`sflow-ctl schema`: the formats as JSON Schema, for editors."""

import click

from sflow_ctl.cli.terminal.lines import print_document


@click.command()
@click.option("--site", is_flag=True, help="Print the schema of site and user settings files.")
def schema(site: bool) -> int:
    """Print the JSON Schema of workflow files, for editors."""
    from sflow_ctl.format.reference.jsonschema import schema_text, site_schema_text

    print_document(site_schema_text() if site else schema_text())
    return 0
