"""Whole courses of a run, written down: events in, commands out."""
