"""Sentences and lists for the commands that look at runs. Pure."""
