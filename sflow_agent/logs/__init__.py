"""Following the logs of ranks, and where they are written."""
