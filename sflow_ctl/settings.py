"""Settings in layers: what a site, a user, a workflow and the command line say, the later winning key by key. Pure.

Files are read by `runtime/settings_files.py`; what each setting means is in `spec/schema.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import Where, check
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.format.field_lookup import PathKey, dotted
from sflow_ctl.planner.numbers import NumberError, as_seconds

if TYPE_CHECKING:
    from sflow_ctl.format.loader import LoadedDocument

COMMAND_LINE = "command line"
DEFAULT = "default"
DURATIONS = ("join_within", "headroom", "lost_after", "orphan_grace")
DIRECTORIES = ("output_dir", "log_spool")


class Layer(msgspec.Struct, frozen=True):
    """What one source says: `data` as it is written, None for "as if nobody had said it"."""

    data: Mapping[str, Any]
    where: Where
    """`file:line:column` of a value."""
    section: tuple[str, ...] = ()
    """What stands before a setting's name in its file."""

    def place(self, *path: PathKey) -> str:
        """`file:line:column  field`, for a message."""
        found = self.where(path)
        field = dotted((*self.section, *path))
        return f"{found}  {field}" if found else field


def checked_layer(
    data: Any,
    where: Where,
    kind: type[schema.Settings],
    findings: list[Finding],
) -> Layer:
    """A layer of what stands in a file; everything that is wrong with it is added to `findings`."""
    said = (
        {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data
    )
    is_right = check(kind, said, (), where, findings) is not None
    if not isinstance(said, dict):
        return Layer({}, where)
    layer = Layer(data, where)
    # Each stands for itself: what is wrong with one hides nothing of another.
    right = {key: value for key, value in said.items() if is_right or _has_right_type(kind, key, value)}
    findings += rule_findings(layer, right)
    return layer


def command_line_layer(said: Mapping[str, Any], findings: list[Finding]) -> Layer:
    """A layer of options, which have checked types already."""
    layer = Layer(said, lambda _: COMMAND_LINE)
    findings += rule_findings(layer, said)
    return layer


def workflow_layer(loaded: "LoadedDocument", findings: list[Finding]) -> Layer:
    """A layer of the `settings:` of a workflow's files, whose types are right."""
    layer = Layer(
        loaded.site_settings, lambda path: loaded.site_settings_where(("settings", *path)), ("settings",)
    )
    findings += rule_findings(layer, layer.data)
    return layer


class Effective(msgspec.Struct, frozen=True):
    """The settings that count."""

    settings: schema.SiteFile
    origins: Mapping[str, Layer]
    """The layer that a value is from; those that are not in it have their defaults."""

    def origin(self, key: str) -> str:
        """Where a value comes from: `file:line:column`, the command line, or default."""
        layer = self.origins.get(key)
        return DEFAULT if layer is None else layer.where((key,)) or DEFAULT

    def place(self, key: str, *path: PathKey) -> str:
        """The same, for a message about this setting."""
        layer = self.origins.get(key)
        return key if layer is None else layer.place(key, *path)


def effective(layers: Sequence[Layer]) -> Effective:
    """The settings of checked layers, weakest first. A list replaces the one of the layer before."""
    values: dict[str, Any] = {}
    origins: dict[str, Layer] = {}
    for layer in layers:
        values.update(layer.data)
        origins.update(dict.fromkeys(layer.data, layer))
    said = {key: value for key, value in values.items() if value is not None}
    return Effective(msgspec.convert(said, schema.SiteFile), origins)


def _has_right_type(kind: type[schema.Settings], key: Any, value: Any) -> bool:
    try:
        msgspec.convert({key: value}, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def rule_findings(layer: Layer, said: Mapping[str, Any]) -> Iterator[Finding]:
    """What types cannot say."""
    for key, value in said.items():
        if value is None:
            continue
        for index, text in enumerate(value if isinstance(value, list) else [value]):
            path: tuple[PathKey, ...] = (key, index) if isinstance(value, list) else (key,)
            if isinstance(text, str):
                yield from _text_findings(key, text, layer.place(*path))
        if key in DURATIONS:
            yield from _duration_findings(key, value, layer.place(key))
        elif key in DIRECTORIES and not value.startswith(("/", "~", "$")):
            what = f'{key} is "{value}": relative to what is not known where it is said once for many runs'
            yield Finding("wrong-value", what, layer.place(key), "begin it with /, ~ or $VARIABLE")


def _text_findings(key: str, text: str, place: str) -> Iterator[Finding]:
    if not text.strip():
        yield Finding("wrong-value", f"{key} is empty", place, "leave it out, or write null for the default")
    elif EXPRESSION_START in text:
        what = f"{key} has an expression: settings are known before variables are"
        yield Finding("wrong-value", what, place, "write the value itself")
    elif key not in DIRECTORIES and not _without_layout(key, text).isprintable():
        yield Finding("wrong-value", f"{key} has control characters", place, "leave them out")
    elif key == "launch_flags":
        from sflow_ctl.slurm.launch_flags import flag_problem  # few have any

        problem = flag_problem(text)
        if problem is not None:
            yield Finding("launch-flag", f'launch flag "{text}" {problem[0]}', place, problem[1])


def _without_layout(key: str, text: str) -> str:
    return text.replace("\n", "").replace("\t", "") if key == "preamble" else text


def _duration_findings(key: str, value: Any, place: str) -> Iterator[Finding]:
    try:
        if as_seconds(value) > 0:
            return
        problem = f"must be more than 0 seconds, is {value!r}"
    except NumberError as error:
        problem = str(error)
    yield Finding("wrong-value", f"{key} {problem}", place, "e.g. 90, 90s or 2m")
