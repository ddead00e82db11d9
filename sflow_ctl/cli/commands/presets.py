"""`sflow-ctl presets`: the ready-made services that `uses:` can name."""

import click

from sflow_ctl.cli.terminal.lines import print_document, print_line


@click.command()
@click.argument("name", required=False)
def presets(name: str | None) -> int:
    """List the ready-made services for `uses:`, or print the preset NAME."""
    from protocol.errors import SpecError
    from sflow_ctl.format.presets import preset, preset_names, unknown_preset

    known = preset_names()
    if name is not None:
        if name not in known:
            what, hint = unknown_preset(name)
            raise SpecError.of("unknown-preset", what, hint=hint)
        print_document(preset(name).text)
        return 0
    width = max(map(len, known))
    for one in map(preset, known):
        print_line(f"{one.name:<{width}}  {one.about}")
        for parameter, fields in one.parameters.items():
            value = "required" if fields["value"] is None else str(fields["value"]) or "empty"
            print_line(f"{'':<{width}}    {parameter} ({value.lower()}): {fields['description']}")
    return 0
