"""Slurm batch scripts, and the sheets that many of them come from: all text, no I/O."""
