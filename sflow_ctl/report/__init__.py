"""A run in words: tables, first cause, `summary.json`. Pure."""
