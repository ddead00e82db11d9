"""Slurm's programs at run time: allocations, facts, submission."""
