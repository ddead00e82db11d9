"""`sflow-ctl schema`: the formats as JSON Schema, for editors."""

import click


@click.command()
@click.option("--site", is_flag=True, help="Of site and user files instead.")
def schema(site: bool) -> int:
    """Print the JSON Schema of workflow files."""
    from sflow_ctl.format.reference.jsonschema import schema_text, site_schema_text

    click.echo(site_schema_text() if site else schema_text(), nl=False)
    return 0
