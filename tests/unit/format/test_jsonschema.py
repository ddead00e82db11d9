"""The shipped JSON Schema equals the types."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sflow_ctl.format import schema
from sflow_ctl.format.reference import jsonschema


def test_the_shipped_file_equals_the_types() -> None:
    shipped = Path(jsonschema.__file__).with_name(jsonschema.SCHEMA_FILE)
    remedy = "write it again: python -c 'from sflow_ctl.format.reference.jsonschema import *; print(schema_text(), end=str())'"
    assert shipped.read_text() == jsonschema.schema_text(), remedy


def test_every_field_is_there_and_no_other_is_allowed() -> None:
    parts = json.loads(jsonschema.schema_text())["$defs"]
    for kind in (schema.Task, schema.Probe, schema.Operator, schema.Backend, schema.Resources, schema.Output):
        part = parts[kind.__name__]
        assert set(part["properties"]) == set(kind.__struct_encode_fields__)
        assert part["additionalProperties"] is False


def test_the_schema_of_a_site_file_has_every_setting() -> None:
    part = json.loads(jsonschema.site_schema_text())["$defs"]["SiteFile"]
    assert set(part["properties"]) == set(schema.SiteFile.__struct_fields__)
    assert part["additionalProperties"] is False
    assert all(setting["description"] for setting in part["properties"].values())


def test_every_reference_leads_somewhere() -> None:
    text = jsonschema.schema_text()
    parts = json.loads(text)["$defs"]
    references = {word.split("/")[-1].rstrip('",') for word in text.split() if word.startswith('"#/$defs/')}
    assert references
    assert references <= parts.keys()


def properties(data: Any) -> list[dict[str, Any]]:
    """Return all properties of a schema, at any depth."""
    if isinstance(data, list):
        return [found for item in data for found in properties(item)]
    if not isinstance(data, dict):
        return []
    own = data.get("properties", {})
    inner = [found for value in data.values() for found in properties(value)]
    return [*own.values(), *inner] if data.get("type") == "object" else inner


@pytest.mark.parametrize("text", [jsonschema.schema_text(), jsonschema.site_schema_text()])
def test_every_property_has_a_description_for_editors(text: str) -> None:
    found = properties(json.loads(text)["$defs"])
    assert len(found) > 15
    assert [one for one in found if not one.get("description")] == []


def test_durations_are_numbers_or_text_of_a_known_form() -> None:
    parts = json.loads(jsonschema.schema_text())["$defs"]
    number, text, null = parts["Task"]["properties"]["timeout"]["anyOf"]
    assert (number["type"], text["type"], null["type"]) == ("number", "string", "null")
    assert parts["Probe"]["properties"]["interval"]["default"] == 5
    good = [
        "5",
        "1.5",
        "250ms",
        "90s",
        "10m",
        "10 min",
        "2h",
        "1h30m",
        "1d",
        "01:30:00",
        "1-12:00:00",
        "1-12",
        "2:30",
        "${{ T }}",
    ]
    bad = ["soon", "5S", "5 parsecs", "-3", "1:2:3:4", "10mm"]
    assert [one for one in good if not re.search(text["pattern"], one)] == []
    assert [one for one in bad if re.search(text["pattern"], one)] == []


def test_fields_of_durations_are_the_ones_with_the_type() -> None:
    parts = json.loads(jsonschema.schema_text())["$defs"]
    durations = {
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part["properties"].items()
        if any("pattern" in one for one in value.get("anyOf", ()))
    }
    assert {
        "Task.timeout",
        "TaskBody.timeout",
        "Retries.interval",
        "Probe.deadline",
        "Settings.headroom",
    } <= durations
    assert "TcpPort.port" not in durations
    assert msgspec.convert({"timeout": "90s"}, schema.WorkflowSettings).timeout == "90s"


@pytest.mark.parametrize(
    ("outputs", "is_valid"),
    [
        ({"n": {"type": "int"}, "parts": {"kind": "files", "path": "part_*"}}, True),
        ([{"name": "n", "type": "int"}], True),
        ({"pattern": "rate = {rate:f}"}, True),
        ({"n": {"typ": "int"}}, False),
        ({"patern": "rate = {rate:f}"}, False),
    ],
)
def test_outputs_are_a_list_one_or_a_mapping_from_names(outputs: object, *, is_valid: bool) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator(jsonschema.json_schema())
    task = {"name": "a", "script": ["true"], "outputs": outputs}
    assert validator.is_valid({"version": "0.1", "workflow": {"name": "w", "tasks": [task]}}) is is_valid
    body = {"script": ["true"], "outputs": outputs}
    assert validator.is_valid({"version": "0.1", "workflow": {"name": "w", "tasks": {"a": body}}}) is is_valid
