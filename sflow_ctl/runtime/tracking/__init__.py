"""Exports runs: to tables, and to the stores of tracking tools. Nothing of a run depends on these."""
