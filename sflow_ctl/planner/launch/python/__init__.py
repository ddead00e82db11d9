"""Functions of Python as tasks."""
