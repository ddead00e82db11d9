"""Reads and collects the outputs of runs, live or ended."""
