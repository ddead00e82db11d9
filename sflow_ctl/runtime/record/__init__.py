"""The run directory: writing its files, reading them back, finding runs."""
