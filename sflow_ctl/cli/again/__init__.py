"""Commands that run tasks of an earlier run again: in its directory, in a copy of it, or as a new run."""
