"""Readiness and failure probes: what they watch, when they poll, and which process owns a port."""
