"""Expands `uses`: a task made from a preset and the user's own fields. Runs before checks, which then see a plain task.

A preset is a file of `sflow_ctl/presets` with the body of a task. Its variables are its parameters: `with` gives them values.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from protocol.errors import Finding
from sflow_ctl.format.checking import guess_hint, nearest
from sflow_ctl.format.merged.files import USES, WITH
from sflow_ctl.format.merged.items import Item
from sflow_ctl.format.schema import Condition
from sflow_ctl.format.yaml_source import read_source

_HOME = Path(__file__).resolve().parent.parent / "presets"
_BY_NAME = ("ports", "files", "variables")
"""Fields that are merged entry by entry."""
_CHECKS = (*Condition.__struct_fields__, "all", "any")
_SELF = "task.self."


class Preset(Struct, frozen=True):
    """`about` is its first comment line, `body` that of its task."""

    name: str
    about: str
    text: str
    body: dict[str, Any]

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Name to `value` and `description`."""
        return dict(self.body.get("variables", {}))


def preset_names() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in _HOME.glob("*.yaml"))


def preset(name: str) -> Preset:
    """Return an existing preset."""
    source, findings = read_source(_HOME / f"{name}.yaml")
    assert source is not None, findings
    assert not findings, findings
    about = source.text.partition("\n")[0].removeprefix("#").strip()
    return Preset(name, about, source.text, source.data)


def unknown_preset(name: str) -> tuple[str, str]:
    """Return a sentence and a hint for the name of a preset that does not exist."""
    names = preset_names()
    guess = nearest(name, names)
    listed = f"presets are {', '.join(names)}"
    return f'there is no preset "{name}"', f'did you mean "{guess}"? {listed}' if guess else listed


def expand_presets(items: list[Item], findings: list[Finding]) -> None:
    """Replace the bodies of tasks that use a preset; problems go to `findings`."""
    for item in items:
        if "block" in item.body:  # whose inputs these are
            continue
        given = item.body.pop(WITH, None)
        name = item.body.pop(USES, None)
        if name is None:
            if given is not None:
                what = f'task "{item.name}" has "with", the parameters of a preset, but no preset'
                findings.append(Finding("missing-key", what, item.where(WITH), "add uses: PRESET"))
        elif not isinstance(name, str):
            findings.append(Finding("wrong-type", "expected the name of a preset", item.where(USES)))
            item.body.setdefault("script", ["false"])
        elif name not in preset_names():
            what, hint = unknown_preset(name)
            findings.append(Finding("unknown-preset", what, item.where(USES), hint))
            item.body.setdefault("script", ["false"])  # a missing script only follows from this
        else:
            _expand(item, preset(name), given, findings)


def _expand(item: Item, base: Preset, given: Any, findings: list[Finding]) -> None:
    if given is not None and not isinstance(given, dict):
        what = f'"with" of task "{item.name}" must be a mapping from parameters to values'
        findings.append(Finding("wrong-type", what, item.where(WITH)))
        given = None
    parameters = base.parameters
    values: dict[str, Any] = given or {}
    for key in values:
        if key not in parameters:
            hint = guess_hint(str(key), list(parameters), f"it has {', '.join(parameters)}")
            what = f'preset "{base.name}" of task "{item.name}" has no parameter "{key}"'
            findings.append(Finding("unknown-key", what, item.where(WITH, str(key)), hint))
    body = _about(item.name, base.body)
    body["variables"] = {
        name: {**parameter, "value": values[name]} if values.get(name) is not None else parameter
        for name, parameter in body["variables"].items()
    }
    for name, parameter in list(body["variables"].items()):
        if parameter["value"] is None:
            del body["variables"][name]
            if "script" not in item.body and "files" not in item.body:
                what = f'preset "{base.name}" of task "{item.name}" needs a value for "{name}"'
                hint = f"add with: {{{name}: ...}}; {base.about}"
                findings.append(Finding("missing-key", what, item.where(USES), hint))
    item.body = _with_changes(body, item.body)


def _about(task: str, data: Any) -> Any:
    """Return a copy in which `task.self` is this task."""
    if isinstance(data, dict):
        return {key: _about(task, value) for key, value in data.items()}
    if isinstance(data, list):
        return [_about(task, value) for value in data]
    if isinstance(data, str):
        return data.replace(_SELF, f"task.{task}." if task.isidentifier() else f'task["{task}"].')
    return data


def _with_changes(base: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preset's fields, replaced by the task's own; ports, files, variables and probes are merged by name."""
    body = dict(base)
    for key, value in own.items():
        if key in _BY_NAME and isinstance(value, dict):
            body[key] = {**body.get(key, {}), **value}
        elif key == "variables" and isinstance(value, list):
            named = {one.get("name"): one for one in value if isinstance(one, dict)}
            body[key] = [
                *({"name": name, **one} for name, one in body[key].items() if name not in named),
                *value,
            ]
        elif key == "probes" and isinstance(value, dict):
            body[key] = {
                **body.get(key, {}),
                **{kind: _probe(body, kind, one) for kind, one in value.items()},
            }
        else:
            body[key] = value
    return body


def _probe(base: Mapping[str, Any], kind: str, own: Any) -> Any:
    """Return the task's own probe; one without a check only changes the timing of the preset's."""
    there = base.get("probes", {}).get(kind)
    if there is None or not isinstance(own, dict) or any(name in own for name in _CHECKS):
        return own
    return {**there, **own}
