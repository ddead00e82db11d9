"""Chaos: random workflows under random faults, both chosen by a seed, and what must be true after each run."""
