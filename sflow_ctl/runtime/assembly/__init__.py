"""Puts the parts of a controller together."""
