"""The Python interface against real runs."""
