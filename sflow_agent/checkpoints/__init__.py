"""Finds the files that a task has written, and chooses among them: checkpoints that its next attempt continues from."""
