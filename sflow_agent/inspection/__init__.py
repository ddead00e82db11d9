"""The doctor's inspection of this node: facts, collected in threads with time limits."""
