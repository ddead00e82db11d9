"""Follows the logs of ranks, and decides where they are written."""
