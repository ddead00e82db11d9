"""A JSON Schema of the format, from the types, so that editors complete and check workflow files.

The shipped `sflow.schema.json` is exactly this. References between parts of a file, and everything about expressions, are
beyond a schema: `sflow-ctl plan` checks those.
"""

from typing import Any

import msgspec

from sflow_ctl.format import schema
from sflow_ctl.format.presets import preset_names

SCHEMA_FILE = "sflow.schema.json"
_NAMED = {
    "variables": "Variable",
    "artifacts": "Artifact",
    "backends": "Backend",
    "operators": "Operator",
    "signatures": "Signature",
    "tasks": "Task",
}


def json_schema() -> dict[str, Any]:
    """The schema as plain data, keys in a fixed order."""
    generated = msgspec.json.schema(schema.Document)
    parts: dict[str, Any] = generated["$defs"]
    parts["Document"]["properties"]["version"] = {"const": schema.VersionText}
    for part in ("Document", "Workflow", "Task"):
        properties = parts[part]["properties"]
        for section, name in _NAMED.items():
            if section in properties:
                properties[section] = _either_form(name, is_optional=section != "tasks")
    for name in ("Artifact", "Backend", "Operator", "Signature", "Task", "Variable"):
        parts[f"{name}Body"] = _without_name(parts[name])
    parts["Variable"]["properties"]["type"]["anyOf"][0] = {"enum": _variable_types()}
    parts["VariableBody"]["properties"]["type"]["anyOf"][0] = {"enum": _variable_types()}
    for name in ("Operator", "OperatorBody"):
        parts[name] = _either_of(parts[name], "type", "extends")
    parts["Task"]["properties"]["uses"]["anyOf"][0] = {"enum": preset_names()}
    for name in ("Task", "TaskBody"):
        parts[name] = _either_of(parts[name], "script", "uses")
    parts["Backend"] = _by_type(parts["Backend"], _backend_rules())
    parts["BackendBody"] = _by_type(parts["BackendBody"], _backend_rules())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": 'sflow.yaml, version "0.1"',
        "$ref": generated["$ref"],
        "$defs": {name: parts[name] for name in sorted(parts)},
    }


def site_json_schema() -> dict[str, Any]:
    """The schema of site and user files."""
    generated = msgspec.json.schema(schema.SiteFile)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sflow's settings of a site or a user",
        **generated,
    }


def schema_text() -> str:
    """The shipped file's text."""
    return _text(json_schema())


def site_schema_text() -> str:
    """What `sflow-ctl schema --site` prints."""
    return _text(site_json_schema())


def _text(data: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n"


def _either_form(name: str, is_optional: bool) -> dict[str, Any]:
    """A list of entries with names, or a mapping from names to bodies; a variable's body may be just its value."""
    body: dict[str, Any] = {"$ref": f"#/$defs/{name}Body"}
    if name == "Variable":
        body = {"anyOf": [body, {"not": {"type": "object"}}]}
    forms: list[dict[str, Any]] = [
        {"type": "array", "items": {"$ref": f"#/$defs/{name}"}},
        {"type": "object", "additionalProperties": body},
    ]
    return {"anyOf": [*forms, {"type": "null"}] if is_optional else forms}


def _without_name(part: dict[str, Any]) -> dict[str, Any]:
    """An entry of a mapping: the key is its name, and wins over one inside."""
    return {**part, "required": [field for field in part["required"] if field != "name"]}


def _variable_types() -> list[str]:
    from sflow_ctl.format.rules import VARIABLE_TYPES

    return sorted(VARIABLE_TYPES)


def _backend_rules() -> dict[str, list[str]]:
    return {"slurm": ["time", "nodes", "gpus_per_node"]}


def _either_of(part: dict[str, Any], field: str, source: str) -> dict[str, Any]:
    """A required field, unless another one says where it comes from."""
    required = [name for name in part["required"] if name != field]
    return {**part, "required": required, "anyOf": [{"required": [field]}, {"required": [source]}]}


def _by_type(part: dict[str, Any], required: dict[str, list[str]]) -> dict[str, Any]:
    """Fields that only one kind needs."""
    rules = [
        {"if": {"properties": {"type": {"const": kind}}, "required": ["type"]}, "then": {"required": fields}}
        for kind, fields in required.items()
    ]
    return {**part, "allOf": rules}
