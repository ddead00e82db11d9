"""An index over runs and their tasks, for lists over many runs. What is in run directories stays the truth."""
