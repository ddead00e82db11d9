"""Describes the format from its schema: the JSON Schema for editors, Markdown tables, and single fields."""
