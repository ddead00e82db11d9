"""Agents of a run: how they are started, authenticated and reached."""
