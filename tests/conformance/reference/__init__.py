"""Compares plans with those of a released sflow, which is installed in an environment of its own."""
