"""The shipped JSON Schema is what the types say."""

import json
from pathlib import Path

from sflow_ctl.format import jsonschema, schema


def test_the_shipped_file_equals_the_types() -> None:
    shipped = Path(jsonschema.__file__).with_name(jsonschema.SCHEMA_FILE)
    remedy = "write it again: python -c 'from sflow_ctl.format.jsonschema import *; print(schema_text(), end=str())'"
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
    assert references and references <= parts.keys()
