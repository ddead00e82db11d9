"""`${{ ... }}` expressions: templates, and a fast path for the simple ones."""
