"""Settings in layers: a site's, a user's, a workflow's and the command line's, later ones winning key by key.

Pure. Files are read by `runtime/files/settings_files.py`; the meaning of each setting is in `format/schema`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from protocol.errors import Finding
from protocol.text.listing import listed
from sflow_ctl.format import schema
from sflow_ctl.format.checking import Where, check, nearest
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.format.field_lookup import PathKey, dotted
from sflow_ctl.plan.words import Policies, PolicyWord
from sflow_ctl.planner.numbers import NumberError, as_bytes, as_seconds

if TYPE_CHECKING:
    from sflow_ctl.format.loader import LoadedDocument

COMMAND_LINE = "command line"
DEFAULT = "default"
DURATIONS = ("join_within", "headroom", "lost_after", "orphan_grace")
MOST_RESTARTS = 100
DIRECTORIES = ("output_dir", "log_spool", "index_file")


class Layer(msgspec.Struct, frozen=True):
    """The settings of one source: `data` as written; a None is the same as a missing setting."""

    data: Mapping[str, Any]
    where: Where
    """Return `file:line:column` of a value."""
    section: tuple[str, ...] = ()
    """The path of the section that holds the settings in its file."""

    def place(self, *path: PathKey) -> str:
        """Return `file:line:column field`, or the option, for a message."""
        found = self.where(path)
        if found == COMMAND_LINE:
            key = "launch_flag" if path[0] == "launch_flags" else str(path[0])
            return f"--{key.replace('_', '-')}"
        field = dotted((*self.section, *path))
        return f"{found}  {field}" if found else field


def checked_layer(
    data: Any,
    where: Where,
    kind: type[schema.Settings],
    findings: list[Finding],
) -> Layer:
    """Return the layer of a file; every problem in it is added to `findings`."""
    said = (
        {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data
    )
    is_right = check(kind, said, (), where, findings) is not None
    if not isinstance(said, dict):
        return Layer({}, where)
    layer = Layer(data, where)
    # One call each: a problem of one setting must not hide that of another.
    right = {key: value for key, value in said.items() if is_right or _has_right_type(kind, key, value)}
    findings += rule_findings(layer, right)
    return layer


def command_line_layer(said: Mapping[str, Any], findings: list[Finding]) -> Layer:
    """Return a layer of options, whose types are checked already."""
    layer = Layer(said, lambda _: COMMAND_LINE)
    findings += rule_findings(layer, said)
    return layer


def workflow_layer(loaded: "LoadedDocument", findings: list[Finding]) -> Layer:
    """Return the layer of the `settings:` of a workflow's files, without those of wrong types, which are findings already."""
    right = {
        key: value
        for key, value in loaded.site_settings.items()
        if value is None or _has_right_type(schema.Settings, key, value)
    }
    layer = Layer(right, lambda path: loaded.site_settings_where(("settings", *path)), ("settings",))
    findings += rule_findings(layer, layer.data)
    return layer


class Effective(msgspec.Struct, frozen=True):
    """The settings that apply."""

    settings: schema.SiteFile
    origins: Mapping[str, Layer]
    """The layer of each value; values that are not in it have their defaults."""

    def origin(self, key: str) -> str:
        """Return the source of a value: `file:line:column`, the command line, or default."""
        layer = self.origins.get(key)
        return DEFAULT if layer is None else layer.where((key,)) or DEFAULT

    def place(self, key: str, *path: PathKey) -> str:
        """Return the source of a value for a message about this setting."""
        layer = self.origins.get(key)
        return key if layer is None else layer.place(key, *path)


def effective(layers: Sequence[Layer]) -> Effective:
    """Combine checked layers, weakest first. A list replaces the one of the layer before."""
    values: dict[str, Any] = {}
    origins: dict[str, Layer] = {}
    for layer in layers:
        values.update(_with_rules(values, layer.data))
        origins.update(dict.fromkeys(layer.data, layer))
    said = {key: value for key, value in values.items() if value is not None}
    return Effective(msgspec.convert(said, schema.SiteFile), origins)


def _with_rules(before: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a layer; its rules about findings are added to those of the layers before."""
    earlier, own = before.get("validation"), data.get("validation")
    if not isinstance(earlier, dict) or not isinstance(own, dict):
        return data
    rules = {**(earlier.get("rules") or {}), **(own.get("rules") or {})}
    return {**data, "validation": {**earlier, **own, "rules": rules}}


def _has_right_type(kind: type[schema.Settings], key: Any, value: Any) -> bool:
    try:
        msgspec.convert({key: value}, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def rule_findings(layer: Layer, said: Mapping[str, Any]) -> Iterator[Finding]:
    """Check rules that types cannot express."""
    for key, value in said.items():
        if value is None:
            continue
        for index, text in enumerate(value if isinstance(value, list) else [value]):
            path: tuple[PathKey, ...] = (key, index) if isinstance(value, list) else (key,)
            if isinstance(text, str):
                yield from _text_findings(key, text, layer.place(*path))
        if key == "max_running" and value < 1:
            yield Finding("wrong-value", f"max_running must be at least 1, is {value}", layer.place(key))
        if key == "agent_restarts" and not 0 <= value <= MOST_RESTARTS:
            what = f"agent_restarts must be between 0 and {MOST_RESTARTS}, is {value}"
            yield Finding("wrong-value", what, layer.place(key), "0 never starts an agent again")
        elif key == "telemetry":
            yield from _telemetry_findings(value, layer)
        elif key == "validation":
            yield from _validation_findings(value, layer)
        elif key == "copy_limit":
            yield from _size_findings(key, value, layer.place(key))
        elif key in DURATIONS:
            yield from _duration_findings(key, value, layer.place(key))
        elif key in DIRECTORIES and not value.startswith(("/", "~", "$")):
            what = f'{key} is "{value}": relative to what is not known where it is said once for many runs'
            yield Finding("wrong-value", what, layer.place(key), "begin it with /, ~ or $VARIABLE")


def _validation_findings(value: Any, layer: Layer) -> Iterator[Finding]:
    from sflow_ctl.plan.parts.judging import JUDGED  # few layers have rules

    given = value if isinstance(value, dict) else {}
    rules = given.get("rules") or {}
    for path, word in (
        (("default",), given.get("default")),
        *((("rules", code), rules[code]) for code in rules),
    ):
        place = layer.place("validation", *path)
        if word is True:
            what = f"validation.{'.'.join(path)} is neither error, warn nor off"
            yield Finding("wrong-value", what, place, "a bare `on` is the same as true")
        code = path[-1]
        if path[0] == "rules" and code not in JUDGED:
            near = nearest(code, [*JUDGED])
            hint = f'did you mean "{near}"?' if near else f"rules may name {listed([*JUDGED], 40)}"
            what = f'no rule may be given for "{code}": it is not a warning, or always an error'
            yield Finding("unknown-rule", what, place, hint)


def policies_of(written: schema.Validation | None) -> Policies | None:
    """Return what was said about findings; None for nothing. A bare `off` is false in YAML."""
    if written is None:
        return None
    rules = {code: _word(word) for code, word in written.rules.items()}
    return Policies(default=_word(written.default), rules=rules)


def _word(word: PolicyWord | bool) -> PolicyWord:
    return "off" if isinstance(word, bool) else word


def _text_findings(key: str, text: str, place: str) -> Iterator[Finding]:
    if not text.strip():
        yield Finding("wrong-value", f"{key} is empty", place, "leave it out, or write null for the default")
    elif EXPRESSION_START in text:
        what = f"{key} has an expression: settings are known before variables are"
        yield Finding("wrong-value", what, place, "write the value itself")
    elif key not in DIRECTORIES and not _without_layout(key, text).isprintable():
        yield Finding("wrong-value", f"{key} has control characters", place, "leave them out")
    elif key == "launch_flags":
        from sflow_ctl.slurm.launch_flags import flag_problem  # few layers have one

        problem = flag_problem(text)
        if problem is not None:
            yield Finding("launch-flag", f'launch flag "{text}" {problem[0]}', place, problem[1])


def _without_layout(key: str, text: str) -> str:
    return text.replace("\n", "").replace("\t", "") if key == "preamble" else text


def _telemetry_findings(value: Any, layer: Layer) -> Iterator[Finding]:
    given = value if isinstance(value, dict) else {}
    if (every := given.get("every")) is not None:
        place = layer.place("telemetry", "every")
        problem = next(_duration_findings("telemetry.every", every, place), None)
        if problem is not None:
            yield problem
        elif as_seconds(every) < LEAST_EVERY_S:
            what = f"telemetry.every must be at least {LEAST_EVERY_S * 1000:g} ms, is {every}"
            yield Finding("wrong-value", what, place, "1s is the default")
    target = given.get("openmetrics")
    place = layer.place("telemetry", "openmetrics")
    if isinstance(target, str) and not target.startswith(("/", "~", "$")):
        what = f'telemetry.openmetrics is "{target}": relative to what is not known where it is said once for many runs'
        yield Finding("wrong-value", what, place, "begin the path with /, ~ or $VARIABLE, or give a port")
    elif isinstance(target, int) and not 0 < target < 1 << 16:
        yield Finding(
            "wrong-value", f"telemetry.openmetrics is {target}: no such port", place, "1024 to 65535"
        )


LEAST_EVERY_S = 0.1


def _size_findings(key: str, value: Any, place: str) -> Iterator[Finding]:
    try:
        as_bytes(value)
    except NumberError as error:
        yield Finding("wrong-value", f"{key} {error}", place, "e.g. 10G")


def _duration_findings(key: str, value: Any, place: str) -> Iterator[Finding]:
    try:
        if as_seconds(value) > 0:
            return
        problem = f"must be more than 0 seconds, is {value!r}"
    except NumberError as error:
        problem = str(error)
    yield Finding("wrong-value", f"{key} {problem}", place, "e.g. 90, 90s or 2m")
