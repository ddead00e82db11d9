"""The command line: commands call the runtime, print errors, and choose the exit status."""
