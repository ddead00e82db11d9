"""Outputs of tasks: values from logs and files, aggregates, and one table of a sweep. Pure."""
