"""`sflow-ctl presets`: the ready-made services that `uses:` can name."""

from typing import TYPE_CHECKING

import click
import msgspec

from sflow_ctl.cli.terminal.lines import print_document, print_json, print_line

if TYPE_CHECKING:
    from sflow_ctl.format.presets import Preset


class PresetParameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter of a preset."""

    default: str | None
    """Its value where none is given; null: it must be given."""
    about: str
    """What it is for, as a sentence."""


class PresetEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A ready-made service."""

    name: str
    """As `uses:` names it."""
    about: str
    """What it is, as a sentence."""
    parameters: dict[str, PresetParameter]
    """By their names."""
    text: str
    """The preset itself, YAML."""


class PresetList(msgspec.Struct, frozen=True, kw_only=True):
    """`presets --json`; with NAME, of that one."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    presets: tuple[PresetEntry, ...]
    """In the order of their names."""


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def presets(name: str | None, as_json: bool) -> int:
    """List the ready-made services for `uses:`, or print the preset NAME."""
    from protocol.errors import SpecError
    from sflow_ctl.format.presets import preset, preset_names, unknown_preset

    known = preset_names()
    if name is not None and name not in known:
        what, hint = unknown_preset(name)
        raise SpecError.of("unknown-preset", what, hint=hint)
    if as_json:
        chosen = known if name is None else [name]
        print_json(PresetList(presets=tuple(_entry(preset(one)) for one in chosen)))
        return 0
    if name is not None:
        print_document(preset(name).text)
        return 0
    width = max(map(len, known))
    for one in map(preset, known):
        print_line(f"{one.name:<{width}}  {one.about}")
        for parameter, fields in one.parameters.items():
            value = "required" if fields["value"] is None else str(fields["value"]) or "empty"
            print_line(f"{'':<{width}}    {parameter} ({value.lower()}): {fields['description']}")
    return 0


def _entry(preset: "Preset") -> PresetEntry:
    parameters = {
        name: PresetParameter(
            default=None if fields["value"] is None else str(fields["value"]),
            about=str(fields["description"]),
        )
        for name, fields in preset.parameters.items()
    }
    return PresetEntry(name=preset.name, about=preset.about, parameters=parameters, text=preset.text)
