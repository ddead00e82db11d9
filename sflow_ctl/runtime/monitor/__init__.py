"""Keeps the readings of monitors in the run directory, and makes their reports at the end of a run."""
