"""Logs on their way from agents to files, the console and viewers."""
