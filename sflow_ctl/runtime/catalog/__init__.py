"""All runs of a user: where they are, how they are doing, and what of them may be deleted."""
