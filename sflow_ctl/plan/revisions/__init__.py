"""Another plan for a live run: what it changes, what it may not change, and the two put together. Pure."""
