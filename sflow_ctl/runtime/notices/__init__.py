"""Tells commands and webhooks of the course of a run."""
