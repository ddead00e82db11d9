"""Writes a JSON Schema of the format from the types, so that editors complete, explain and check workflow files.

The shipped `sflow.schema.json` is exactly this. A schema cannot check references between parts of a file or the contents of
expressions: `sflow-ctl plan` does.
"""

from typing import Any, get_args

import msgspec

from sflow_ctl.format import schema
from sflow_ctl.format.casting import VARIABLE_TYPES
from sflow_ctl.format.presets import preset_names
from sflow_ctl.format.reference.fields import is_duration, meanings, short_form, summary
from sflow_ctl.format.schema.dependencies import SLURMS

SCHEMA_FILE = "sflow.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMED = {
    "variables": "Variable",
    "artifacts": "Artifact",
    "backends": "Backend",
    "operators": "Operator",
    "environments": "Environment",
    "storage": "Storage",
    "signatures": "Signature",
    "tasks": "Task",
}
_UNITS = r"(\d+(\.\d+)?\s*d)?\s*(\d+(\.\d+)?\s*h)?\s*(\d+(\.\d+)?\s*m(in)?)?\s*(\d+(\.\d+)?\s*s)?"
_CLOCK = r"(\d+-)?\d+(:\d{1,2}){0,2}(\.\d+)?"
DURATION: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": rf"^\s*(\d+(\.\d+)?|{_UNITS}|\d+(\.\d+)?\s*ms|{_CLOCK})\s*$|\$\{{\{{"},
    ]
}
"""Seconds, or text: with units, as a clock time, or with an expression."""
_UNREAD = {"Backend": ["kubernetes"], "Operator": ["k8s", "k8s_mpi"]}
"""Types whose entries may have any fields: they are read and not run."""
_SLURM_NEEDS = ("time", "nodes", "gpus_per_node")


def json_schema() -> dict[str, Any]:
    """Return the schema as plain data, keys in a fixed order."""
    generated = msgspec.json.schema(schema.Document)
    parts: dict[str, Any] = generated["$defs"]
    for name, part in parts.items():
        _describe(part, getattr(schema, name))
    parts["Document"]["properties"]["version"]["const"] = schema.VERSION
    for name in ("Document", "Workflow", "Task"):
        properties = parts[name]["properties"]
        for section, entry in _NAMED.items():
            if section in properties:
                form = _either_form(entry, is_optional=section != "tasks")
                properties[section] = {**form, "description": properties[section]["description"]}
    # A task's outputs by name; a value that is not a mapping is of a single output, such as {pattern: ...}.
    parts["Task"]["properties"]["outputs"]["anyOf"].append(
        {"type": "object", "additionalProperties": {"$ref": "#/$defs/Output"}}
    )
    parts["Variable"]["properties"]["type"]["anyOf"][0] = {"enum": sorted(VARIABLE_TYPES)}
    parts["Task"]["properties"]["uses"]["anyOf"][0] = {"enum": preset_names()}
    for entry in _NAMED.values():
        parts[f"{entry}Body"] = _without_name(parts[entry])
    for suffix in ("", "Body"):
        parts[f"Operator{suffix}"] = _either_of(parts[f"Operator{suffix}"], "type", "extends")
        others = ("uses", "python", "external", "block")
        parts[f"Task{suffix}"] = _either_of(parts[f"Task{suffix}"], "script", *others)
        parts[f"Backend{suffix}"] = _with_slurm_rule(parts[f"Backend{suffix}"])
    return {
        "$schema": DIALECT,
        "title": f'sflow.yaml, version "{schema.VERSION}"',
        "$ref": generated["$ref"],
        "$defs": {name: parts[name] for name in sorted(parts)},
    }


def site_json_schema() -> dict[str, Any]:
    """Return the schema of site and user files."""
    generated = msgspec.json.schema(schema.SiteFile)
    for name, part in generated["$defs"].items():
        _describe(part, getattr(schema, name))
    return {"$schema": DIALECT, "title": "sflow's settings of a site or a user", **generated}


def schema_text() -> str:
    """Return the shipped file's text."""
    return _text(json_schema())


def site_schema_text() -> str:
    """Return what `sflow-ctl schema --site` prints."""
    return _text(site_json_schema())


def _text(data: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n"


_SHORT_FORMS: dict[str, dict[str, Any]] = {
    "count": {"type": ["number", "string"]},
    "items": {"type": ["array", "string"]},
    "regexes": {"type": "object", "additionalProperties": {"type": "string"}},
}


def _describe(part: dict[str, Any], kind: type[schema.Part]) -> None:
    """Add descriptions, and replace the types of durations."""
    part["description"] = summary(kind)
    texts = meanings(kind)
    for field in msgspec.structs.fields(kind):
        written = part["properties"][field.encode_name]
        if _takes_duration(field.type):
            is_optional = type(None) in get_args(field.type)
            written.clear()
            written["anyOf"] = [*DURATION["anyOf"], *([{"type": "null"}] if is_optional else [])]
            if not field.required:
                written["default"] = field.default
        elif short_form(field.type) == "values":
            entry = written["additionalProperties"]
            written["additionalProperties"] = {"anyOf": [entry, {"not": {"type": "object"}}]}
        elif (short := short_form(field.type)) is not None:
            inner = dict(written)
            default = {"default": inner.pop("default")} if "default" in inner else {}
            forms = inner.get("anyOf", [inner])
            items = next((form["items"] for form in forms if "items" in form), None)
            alternative = dict(items) if short == "one" and items else dict(_SHORT_FORMS[short])
            written.clear()
            written.update({"anyOf": [*forms, alternative], **default})
        elif "$ref" in written:  # beside a reference, older validators ignore everything else
            written["anyOf"] = [{"$ref": written.pop("$ref")}]
        if (kind, field.name) == (schema.Dependency, "until"):
            written["enum"] = [*written["enum"], *SLURMS]
        written["description"] = texts[field.name]


def _takes_duration(annotation: Any) -> bool:
    return is_duration(annotation) or any(map(is_duration, get_args(annotation)))


def _either_form(name: str, is_optional: bool) -> dict[str, Any]:
    """Return a list of entries with names, or a mapping from names to bodies; a variable may be just its value."""
    body: dict[str, Any] = {"$ref": f"#/$defs/{name}Body"}
    if name == "Variable":
        body = {"anyOf": [body, {"not": {"type": "object"}}]}
    entry: dict[str, Any] = {"$ref": f"#/$defs/{name}"}
    if name in _UNREAD:
        types = {"enum": _UNREAD[name], "description": "Read, but not run by sflow-ctl."}
        unread = {"type": "object", "properties": {"type": types}, "required": ["type"]}
        body, entry = {"anyOf": [body, unread]}, {"anyOf": [entry, unread]}
    forms: list[dict[str, Any]] = [
        {"type": "array", "items": entry},
        {"type": "object", "additionalProperties": body},
    ]
    return {"anyOf": [*forms, {"type": "null"}] if is_optional else forms}


def _without_name(part: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of a mapping, whose key is its name."""
    return {**part, "required": [field for field in part["required"] if field != "name"]}


def _either_of(part: dict[str, Any], field: str, *sources: str) -> dict[str, Any]:
    """Require one field, or another one that supplies it."""
    required = [name for name in part["required"] if name != field]
    return {**part, "required": required, "anyOf": [{"required": [one]} for one in (field, *sources)]}


def _with_slurm_rule(part: dict[str, Any]) -> dict[str, Any]:
    """Require the fields that only Slurm backends need."""
    is_slurm = {"properties": {"type": {"const": "slurm"}}, "required": ["type"]}
    return {**part, "allOf": [{"if": is_slurm, "then": {"required": list(_SLURM_NEEDS)}}]}
