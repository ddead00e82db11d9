"""Transports logs from agents to files, the console and viewers."""
