"""What the full-screen view shows of a run, as rows and lines. Pure."""
