"""Judges whether nodes are fit for a run. Pure; `runtime/fleet/inspection.py` collects the facts."""
