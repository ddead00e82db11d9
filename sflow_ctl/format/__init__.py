"""Reading workflow files: YAML with positions, the schema, findings, overrides."""
