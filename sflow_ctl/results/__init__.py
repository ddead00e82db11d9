"""Outputs of tasks: read from logs and files, aggregated, and collected in one table. Pure."""
