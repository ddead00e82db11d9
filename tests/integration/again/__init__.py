"""Reruns and replays of real runs."""
