"""Commands for the first steps: a first file, its check, and completion in the shell."""
