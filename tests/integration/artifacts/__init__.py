"""Artifacts fetched from servers on loopback."""
