"""`sflow-ctl schema`: the format as JSON Schema, for editors."""

import click


@click.command()
def schema() -> int:
    """Print the JSON Schema of workflow files."""
    from sflow_ctl.spec.jsonschema import schema_text

    click.echo(schema_text(), nl=False)
    return 0
