"""Choosing tasks and runs by words about them, and which tasks a rerun runs. Pure. Called by `cli` and `runtime/run`."""
