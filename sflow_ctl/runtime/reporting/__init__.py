"""Reads the record of a run for its report, and writes the report's files."""
