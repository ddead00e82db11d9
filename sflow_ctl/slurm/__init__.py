"""Slurm's command lines and texts: job steps, node lists, hints. Pure."""
